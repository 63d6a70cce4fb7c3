"""From a data set to new structures: `python -m experiments.walkthrough.twenty_lines`.

Trains for a minute or so, far too short for good crystals; it shows how the pieces fit.
"""

import jax
import optax

import miad_jax

crystals, records = miad_jax.load_dataset("prototypes", "train")
crystals = crystals[crystals.num_atoms <= 5][:512]
diffusion = miad_jax.make_diffusion()
net = miad_jax.CSPNet(hidden_dim=64, num_layers=2, num_freqs=16)
params = net.init_params(jax.random.key(0))
optimizer = optax.adam(2e-3)


@jax.jit
def step(params, opt_state, key):
    """One step of training on the whole set: new mirage atoms and new noise every time."""
    infuse_key, loss_key = jax.random.split(key)
    infused = miad_jax.infuse(infuse_key, crystals, 6)

    def loss(params):
        denoise = jax.tree_util.Partial(net.denoise, params)
        return miad_jax.loss(diffusion, denoise, loss_key, infused)

    (_, terms), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    updates, opt_state = optimizer.update(gradient, opt_state)
    return optax.apply_updates(params, updates), opt_state, terms


opt_state = optimizer.init(params)
for i in range(300):
    params, opt_state, terms = step(params, opt_state, jax.random.key(i))
    if i % 50 == 0:
        print(i, *(f"{x:.3f}" for x in (terms.lattice, terms.coords, terms.types)))

denoise = jax.tree_util.Partial(net.denoise, params)
samples = miad_jax.sample(diffusion, denoise, jax.random.key(1), num_samples=4, num_atoms=6)
for crystal in miad_jax.reduce(samples):
    if crystal.size:
        print(miad_jax.to_structures(crystal)[0].composition)
