"""Small heads that act, and a few updates of them."""

import jax
import numpy as np
import optax

from jepa_wm.models import heads

SIZES = heads.Sizes(
  latent_dim=2,
  action_dim=2,
  action_block=5,
  action_low=(-1.0, -2.0),
  action_high=(1.0, 2.0),
)
TINY = {'width': 32, 'depth': 1}
KEY = jax.random.key(0)


def build(name, **settings):
  return heads.from_config({'name': name, **TINY, **settings}, SIZES)


def learn(head, make_batch, num_steps=300):
  """Variables after some steps, and the last metrics."""
  rng = np.random.default_rng(0)
  variables = jax.jit(head.init)(KEY)
  optimizer = optax.adam(1e-2)
  state = optimizer.init(variables['params'])

  @jax.jit
  def step(variables, state, batch, number):
    loss_fn = lambda params: head.losses(
      {**variables, 'params': params}, batch, jax.random.fold_in(KEY, number)
    )[:2]
    gradient, metrics = jax.grad(loss_fn, has_aux=True)(variables['params'])
    updates, state = optimizer.update(gradient, state)
    params = optax.apply_updates(variables['params'], updates)
    variables = head.after_update({**variables, 'params': params}, number)
    return variables, state, metrics

  for number in range(num_steps):
    variables, state, metrics = step(variables, state, make_batch(rng), number)
  return head.for_inference(variables), jax.device_get(metrics)
