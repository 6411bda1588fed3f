"""What is said of a head while it is trained, and once it is."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jepa_wm import exports, files
from jepa_wm.evaluation.diagnostics import calibration
from jepa_wm.evaluation.diagnostics.finding import Finding
from jepa_wm.models import heads
from jepa_wm.recipes import sources

_NUM_PATHS = 3000


def acts(head: heads.Head) -> bool:
  """Whether there are actions in what a head learns of."""
  batches: str = head.config.batches
  return batches not in ('frames', 'gaps', 'legs', 'episodes')


def evaluator(
  head: heads.Learner,
  model: exports.WorldModel,
  batches: Sequence[Mapping[str, Any]],
) -> Callable[[Any, Any], Mapping[str, float | str]]:
  """Looks at held-out batches, the same in every run.

  Of a head that says steps also how well it is calibrated, see
  `calibration.steps_scalars`.

  Args:
    head: that is trained.
    model: whose latents it reads.
    batches: held out.
  """

  @jax.jit
  def losses(variables: Any, batch: Any) -> dict[str, jax.Array]:
    if acts(head):
      assert model.units is not None
      action = model.units.normalize(batch['action'])
      batch = {**batch, 'action': action}
    found = head.losses(variables, batch, jax.random.key(0))
    return {'loss': found.loss, **found.metrics}

  says = steps_fn(head)

  def evaluate(variables: Any, records: Any) -> dict[str, float | str]:
    del records
    found = jax.device_get([losses(variables, dict(x)) for x in batches])
    said: dict[str, float | str] = {
      f'held_out/{name}': float(np.mean([values[name] for values in found]))
      for name in found[0]
    }
    return said | calibration_of(says, variables, batches)

  return evaluate


def calibration_of(
  says: Any, variables: Any, batches: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
  """Scalars of `calibration.steps_scalars`, none of a head that says no steps.

  Args:
    says: what `steps_fn` gives.
    variables: of the head.
    batches: held-out pairs.
  """
  if says is None:
    return {}
  latents, steps = _pairs(batches)
  scalars = calibration.steps_scalars(
    np.asarray(says(variables, latents[:, 0], latents[:, 1])), steps
  )
  return {f'calibration/{k}': x for k, x in scalars.items()}


def calibrated(
  head: exports.TrainedHead,
  model: exports.WorldModel,
  source: sources.Episodes,
  latents: np.ndarray,
  batches: Sequence[Mapping[str, Any]],
) -> dict[str, Finding]:
  """What a distance says of held-out episodes, nothing of another head.

  Args:
    head: that was trained.
    model: whose latents it reads.
    source: of the episodes.
    latents: `[N, D]`, of the held-out frames.
    batches: held out.

  Returns:
    `steps`, and `paths` where the world can say how long a way is.
  """
  price = steps_fn(head.head)
  if price is None:
    return {}
  distance_fn = functools.partial(price, head.params)
  baseline_fn = jax.jit(model.levels[0].model.distance)
  found = {
    'steps': calibration.in_steps(distance_fn, baseline_fn, *_pairs(batches))
  }
  table = source.split('held_out')
  world = source.world
  if world is None or world.path_length is None or 'state' not in table.columns:
    return found
  env, path_length = world.make(), world.path_length
  rows = np.random.default_rng(0).integers(len(latents), size=(_NUM_PATHS, 2))
  states = np.asarray(table.columns['state'])[rows]

  @jax.jit
  @jax.vmap
  def measure(pair: jax.Array) -> tuple[jax.Array, jax.Array]:
    here, there = map(env.from_vector, pair)
    return path_length(env, here, there), env.distance(here, there)

  paths, straight = map(np.asarray, measure(states))
  found['paths'] = calibration.in_paths(
    distance_fn, baseline_fn, latents[rows], paths, straight, world.unit
  )
  return found


def write(findings: Mapping[str, Finding], workdir: pathlib.Path) -> None:
  """A line of every finding, and its pictures beside the curves."""
  for name, found in findings.items():
    numbers = ', '.join(f'{k} {x:.3f}' for k, x in found.scalars.items())
    print(f'{name}: {numbers}', flush=True)
    for file, content in found.figures.items():
      files.write_whole(workdir / file, content)


def steps_fn(head: heads.Head) -> Any:
  """What says steps, compiled once; None of a head that does not learn them."""
  says = head.config.batches in ('gaps', 'episodes')
  if not says or head.roles.cost is None:
    return None
  return jax.jit(head.roles.cost)


def _pairs(
  batches: Sequence[Mapping[str, Any]],
) -> tuple[np.ndarray, np.ndarray]:
  """Latents `[M, 2, D]` and steps `[M]` of all batches."""
  latents, steps = (
    np.concatenate([x[name] for x in batches]) for name in ('latents', 'steps')
  )
  return latents, steps
