"use strict";
// Draws a scene, balls and the edges of a cell, into a viewer of 3Dmol.js, and names the elements.

const point = ([x, y, z]) => ({ x, y, z });
const sum = (...vectors) => [0, 1, 2].map((i) => vectors.reduce((total, v) => total + v[i], 0));

/** The twelve edges of a cell: along each of its vectors, from the four corners of the others. */
function edges(cell) {
  return cell.flatMap((along, k) => {
    const [u, v] = cell.filter((_, i) => i !== k);
    return [[0, 0, 0], u, v, sum(u, v)].map((corner) => [corner, sum(corner, along)]);
  });
}

function drawScene(viewer, scene, legend) {
  viewer.removeAllShapes();
  for (const [start, end] of edges(scene.cell)) {
    viewer.addCylinder({ start: point(start), end: point(end), radius: 0.03, color: "#555555" });
  }
  for (const [element, ...place] of scene.balls) {
    const [radius, color] = scene.elements[element];
    viewer.addSphere({ center: point(place), radius, color });
  }
  viewer.setView([0, 0, 0, 0, 0, 0, 0, 1]);
  viewer.resize();
  viewer.zoomTo();
  viewer.zoom(1.5);
  viewer.render();
  legend.replaceChildren(...Object.entries(scene.elements).map(([element, [, color]]) => {
    const item = document.createElement("span"), dot = document.createElement("i");
    dot.style.background = color;
    item.append(dot, element);
    return item;
  }));
}
