"""Fits a head to all episodes at once, where it learns without gradients."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import exports, pytrees
from jepa_wm.data import gaps, goals
from jepa_wm.models import heads
from jepa_wm.recipes import head_evaluation, training_runs
from jepa_wm.training import metrics

UNUSED = (
  'num_steps',
  'optimizer',
  'log_every',
  'eval_every',
  'checkpoint_every',
  'checkpoint_seconds',
  'keep_checkpoints',
)
"""Fields of a config that say how gradients are followed."""


def check(name: str, config: Mapping[str, Any]) -> None:
  """Refuses what would do nothing.

  Args:
    name: of the head.
    config: as for `train_head`.

  Raises:
    ValueError: a field of `UNUSED` is there.
  """
  unused = [field for field in UNUSED if field in config]
  if unused:
    raise ValueError(
      f'config.{unused[0]} would do nothing: the head {name!r} is fitted in '
      'one pass, without gradients; leave it out, as --config=experiments/'
      f'configs/heads.py:{name} does.'
    )


def fit(
  plan: Any,
  workdir: pathlib.Path,
  head: heads.Fits,
  model: exports.WorldModel,
  tables: Mapping[str, Any],
  latents: Mapping[str, np.ndarray],
  *,
  identity: Mapping[str, Any],
  seed: int,
) -> tuple[Any, dict[str, Any], Sequence[Mapping[str, Any]]]:
  """Fits a head, and looks at how well it says steps if it does.

  It leaves `metrics.jsonl` in `workdir`, with one record.

  Args:
    plan: how, a `training_heads.HeadTraining`.
    workdir: folder of the run.
    head: that is fitted.
    model: whose latents it reads.
    tables: the episodes, by split.
    latents: of all frames, by split.
    identity: of the run, in JSON's types.
    seed: of the held-out pairs.

  Returns:
    The variables, what an export says of them, and pairs of held-out frames as
    'gaps' has them.

  Raises:
    ValueError: episodes that are too short, or a folder where another head was
      trained step by step.
  """
  if (workdir / 'checkpoints').exists():
    raise ValueError(
      f'{workdir} holds a run of another head; choose another --workdir.'
    )
  pairs = gaps.gap_pairs(
    tables['held_out'],
    latents=latents['held_out'],
    max_steps=0,
    batch_size=plan.data.batch_size,
    seed=seed,
  )
  count = -(-plan.data.num_eval_windows // plan.data.batch_size)
  held_out = list(itertools.islice(pairs, count))
  after = goals.after(tables['train'], head.sizes.action_block)
  log = metrics.MetricsLog(workdir, step=0)
  try:
    variables, found = jax.device_get(
      jax.jit(head.fit)(
        jnp.asarray(latents['train']),
        jnp.asarray(after),
        jax.random.key(plan.seed),
      )
    )
    said = {f'fit/{name}': float(x) for name, x in found.items()}
    said |= head_evaluation.calibration_of(
      head_evaluation.steps_fn(head), variables, held_out
    )
    log.write(1, said)
    number = pytrees.count_parameters(variables)
    record = training_runs.described(number, dict(identity), log)
  finally:
    log.close()
  print(', '.join(f'{name} {x:.4g}' for name, x in said.items()), flush=True)
  return variables, record, held_out
