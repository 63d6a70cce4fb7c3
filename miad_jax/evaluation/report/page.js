// The address report.html#crystal-12 turns sample 12. The viewer is loaded when it is first needed.

const crystals = JSON.parse(document.getElementById("crystals").textContent);
const dialog = document.querySelector("dialog");
const [heading, id, choice, stage, legend, said] = ["h2", ".id", ".choice", ".stage", ".legend", ".said"]
  .map((selector) => dialog.querySelector(selector));
let loading, viewer;

function load() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "viewer/3Dmol-min.js";
    script.onload = resolve;
    script.onerror = () => reject(new Error("the folder “viewer” is not beside this page"));
    document.head.append(script);
  });
  return loading;
}

async function draw(scene, name) {
  delete stage.dataset.drawn;
  try {
    await load();
    viewer ??= $3Dmol.createViewer(stage, { backgroundColor: "white", orthographic: true });
  } catch (error) {
    said.textContent = `The crystal cannot be turned: ${error.message ?? error}.`;
    return;
  }
  drawScene(viewer, scene, legend);
  for (const button of choice.children) button.ariaPressed = String(button.textContent === name);
  stage.dataset.drawn = name;
}

function show() {
  const crystal = crystals[/^#crystal-(\d+)$/.exec(location.hash)?.[1]];
  if (!crystal) return dialog.close();
  heading.textContent = crystal.title;
  id.textContent = crystal.id;
  said.textContent = "Drag to turn, scroll or pinch to come nearer.";
  choice.replaceChildren(...crystal.forms.map(([name, scene]) => {
    const button = document.createElement("button");
    button.textContent = name;
    button.onclick = () => draw(scene, name);
    return button;
  }));
  if (!dialog.open) dialog.showModal();
  const [name, scene] = crystal.forms[0];
  draw(scene, name);
}

dialog.querySelector(".close").onclick = () => dialog.close();
dialog.onclose = () => history.replaceState(null, "", location.pathname + location.search);
addEventListener("hashchange", show);
show();
