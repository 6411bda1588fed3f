"""A world of your own, all of it: `python -m experiments.bring_your_own`."""

import flax.struct
import jax
import jax.numpy as jnp

from experiments.configs import lewm
from jepa_wm import WorldModel, envs, recipes
from jepa_wm.evaluation.planning import pairs, planning_benchmark, protocol
from jepa_wm.evaluation.report import report


@flax.struct.dataclass
class Ice:  # A puck on it: x, y and what is added to them in a step.
  image_size: int = flax.struct.field(pytree_node=False, default=32)
  action_dim, action_low, action_high = 2, -jnp.ones(2), jnp.ones(2)
  proprio = vector = lambda self, state: state.vector
  from_vector = lambda self, vector: envs.VectorState(vector, vector)
  distance = lambda self, a, b: jnp.linalg.norm((a.vector - b.vector)[:2])
  success = lambda self, a, b: self.distance(a, b) < 0.07

  def reset(self, rng_key):
    places = jax.random.uniform(rng_key, (2, 2), minval=0.1, maxval=0.9)
    return envs.VectorState(*jnp.pad(places, ((0, 0), (0, 2))))

  def step(self, state, action):
    speed = 0.7 * state.vector[2:] + 0.006 * jnp.clip(action, -1, 1)
    place = jnp.clip(state.vector[:2] + speed, 0.1, 0.9)
    return state.replace(vector=jnp.append(place, speed))

  def render(self, state):
    x, y = (jnp.indices([self.image_size] * 2) + 0.5) / self.image_size
    away = jnp.hypot(x.T - state.vector[0], y.T - state.vector[1])[..., None]
    shown = jnp.clip((0.1 - away) * self.image_size + 0.5, 0, 1)
    return (255 - shown * jnp.array([0, 200, 200])).astype(jnp.uint8)

  def expert(self, rng_key, state):  # To the target, and a good deal beside it.
    away, noise = state.target - state.vector, jax.random.normal(rng_key, (2,))
    return jnp.clip(20 * away[:2] - 100 * state.vector[2:] + 2 * noise, -1, 1)


if __name__ == '__main__':
  world = envs.World(
    make=Ice,
    policies={'expert': lambda ice, noise: envs.ReactivePolicy(ice.expert)},
    place=lambda vectors: vectors[..., :2],
    state_names=('x', 'y', 'dx', 'dy'),
    unit='sides',
  )
  envs.register('ice', world)
  ice = recipes.Collecting(environment='ice', image_size=32, num_episodes=400)
  recipes.collect(ice, 'outputs/ice/data', overwrite=True)
  config = lewm.get_config('two_room_small')
  config.model.encoder.image_size, config.data.path = 32, 'outputs/ice/data'
  recipes.train(config.to_dict() | {'num_steps': 100}, 'outputs/ice/run')
  model = WorldModel.from_checkpoint('outputs/ice/run')
  short = protocol.get('short', environment='ice', num_pairs=20)
  result = planning_benchmark.run(model, short, pairs.load_pairs(short))
  print(report.table([report.draw(result)]))
