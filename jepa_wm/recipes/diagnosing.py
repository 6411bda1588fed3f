"""Asks a checkpoint questions, and writes one page of what was found."""

import dataclasses
import functools
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jepa_wm import exports, fields, files, provenance, sharding
from jepa_wm.data import cache, columns, windows
from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import diagnostic, played
from jepa_wm.evaluation.diagnostics.finding import Finding
from jepa_wm.evaluation.report import findings_page
from jepa_wm.recipes import (
  bars,
  planning_heads,
  probe_data,
  result_folders,
)
from jepa_wm.training import draws

DEMANDS = {
  'surprise': 'Physical',
  'counterfactual': 'Causal',
  'consistency': 'Consistent',
  'generality': 'General',
}
"""The four demands on a world model, by the diagnostic that asks for each."""

_NUM_CLIPS = 64
_NUM_BATCHES = 2
_BATCH_SIZE = _NUM_CLIPS // _NUM_BATCHES
_SMALLEST = {'horizon': 2, 'seed': 0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosing:
  """Which checkpoint is asked what, on which episodes.

  Attributes:
    checkpoint: folder of a training run or an export, or the name of a shipped
      checkpoint.
    diagnostics: names with commas, such as surprise,energy; 'all', or 'demands'
      for surprise, counterfactual, consistency and generality on one page. In
      place of probes, whose flags then mean nothing.
    data: a world such as 'two_room' (played), 'digits', 'tfds:NAME', or a
      folder that experiments.collect wrote; by default what the checkpoint was
      trained on.
    decoder: folder of a decoder head that draws what is imagined.
    horizon: action blocks to look ahead.
    seed: of all draws.
    out: folder for the files.

  Raises:
    ValueError: a number out of its range, or no such diagnostic.
  """

  checkpoint: str = 'two_room_small'
  diagnostics: tuple[str, ...] = ()
  data: str | None = None
  decoder: str | None = None
  horizon: int = 5
  seed: int = 0
  out: str = 'outputs/diagnostics'

  def __post_init__(self) -> None:
    fields.check_counts(self, _SMALLEST, {'horizon': 1000})
    if not self.asked():
      raise ValueError("diagnostics must name one, or 'all' or 'demands'.")

  def asked(self) -> tuple[diagnostic.Diagnostic, ...]:
    """The diagnostics, each once.

    Raises:
      ValueError: there is none of that name.
    """
    groups = {'all': diagnostic.DIAGNOSTICS.names(), 'demands': DEMANDS}
    split = [x.strip() for x in ','.join(self.diagnostics).split(',')]
    names = [name for x in split if x for name in groups.get(x, (x,))]
    return diagnostic.named(dict.fromkeys(names))


def diagnose(
  diagnosing: Diagnosing, *, command: str = '', show_progress: bool = True
) -> dict[str, Any]:
  """Asks, prints what was found, and writes it.

  The folder receives `report.html`, `results.json` and the figures. A
  diagnostic that does not apply to the model or to the episodes says why in a
  sentence, on the page and in the record.

  Args:
    diagnosing: what is asked for.
    command: how to do it again, for the records.
    show_progress: whether to draw a progress bar.

  Returns:
    The record that was written.

  Raises:
    OSError: no checkpoint, no data, or a folder that cannot be written.
    ValueError: a broken checkpoint, or no diagnostic that applies.
  """
  began = time.perf_counter()
  model = exports.WorldModel.from_checkpoint(diagnosing.checkpoint)
  data = probe_data.named(diagnosing.data, model, diagnosing.checkpoint)
  episodes = dataclasses.replace(
    _episodes(diagnosing, model, data),
    picture_fn=_picture_fn(diagnosing, model),
  )
  out = files.expand(diagnosing.out)
  with result_folders.hold(out, result_folders.PROBE):
    findings, refused = _ask(diagnosing, model, episodes, show_progress)
    if not findings:
      raise ValueError(
        f'None of the diagnostics applies to {diagnosing.checkpoint}: '
        + ' '.join(refused.values())
      )
    record = {
      'checkpoint': diagnosing.checkpoint,
      'data': data,
      'horizon': diagnosing.horizon,
      'seed': diagnosing.seed,
      'findings': {name: found.to_dict() for name, found in findings.items()},
      'refused': refused,
      'device': sharding.device_description(),
      'versions': provenance.versions(),
      'commit': provenance.commit(),
      'command': command or f'recipes.diagnose({diagnosing})',
      'seconds': round(time.perf_counter() - began, 1),
    }
    _write(out, record, findings)
  return record


def _ask(
  diagnosing: Diagnosing,
  model: exports.WorldModel,
  episodes: diagnostic.Episodes,
  show_progress: bool,
) -> tuple[dict[str, Finding], dict[str, str]]:
  """What was found, and why the rest was not asked, by name."""
  asked, alike = diagnosing.asked(), 'demands' in diagnosing.diagnostics
  findings, refused = {}, {}
  with bars.Bar('diagnostics', len(asked), show_progress) as bar:
    for number, ask in enumerate(asked):
      key = jax.random.key(diagnosing.seed)
      try:
        found = ask(diagnostic.Question(model, episodes, key))
      except ValueError as error:
        refused[ask.name] = str(error)
      else:
        if alike and ask.name in DEMANDS:
          title = f'{DEMANDS[ask.name]}: {found.title}'
          found = dataclasses.replace(found, title=title)
        findings[ask.name] = found
      bar.part(number)(1.0)
  return findings, refused


def _write(
  out: pathlib.Path, record: dict[str, Any], findings: dict[str, Finding]
) -> None:
  """Files, and a line for every finding."""
  for name, found in findings.items():
    numbers = ', '.join(f'{k} {x:.4g}' for k, x in found.scalars.items())
    verdict = f'{found.verdict}. ' if found.verdict else ''
    print(f'{name}: {verdict}{numbers}', flush=True)
    for file, content in found.figures.items():
      files.write_whole(out / file, content)
  for name, why in record['refused'].items():
    print(f'{name}: not asked. {why}', flush=True)
  page = findings_page.build(findings, record['refused'], record)
  files.write_whole(out / 'report.html', page)
  text = json.dumps(record, indent=2) + '\n'
  files.write_whole(out / 'results.json', text)
  print(f'{out}: report.html, results.json')


def _picture_fn(
  diagnosing: Diagnosing, model: exports.WorldModel
) -> Callable[[jax.Array], jax.Array] | None:
  """What draws latents; None without a decoder."""
  if diagnosing.decoder is None:
    return None
  head = planning_heads.drawing(
    diagnosing.decoder, model, diagnosing.checkpoint
  )
  assert head.head.roles.picture is not None
  return functools.partial(head.head.roles.picture, head.params)


def _episodes(
  diagnosing: Diagnosing, model: exports.WorldModel, data: str
) -> diagnostic.Episodes:
  """Windows of a world, of a folder, or clips with something to read."""
  world, horizon = None, diagnosing.horizon
  windows_fn: Callable[[str], Sequence[diagnostic.Batch]]
  if model.model.acting is None:
    windows_fn = functools.partial(_clips, diagnosing, model, data)
  elif worlds.find(data):
    world = worlds.get_simulated(data)
    windows_fn = functools.partial(
      played.windows, model, world, horizon=horizon
    )
  else:
    path = files.expand(data)
    caches = probe_data.open_cache(path, model.image_size)
    name = str(caches['train'].provenance.get('environment'))
    world = worlds.find(name)
    windows_fn = functools.partial(_recorded, diagnosing, model, caches)
  return diagnostic.Episodes(functools.cache(windows_fn), world, horizon)


def _recorded(
  diagnosing: Diagnosing,
  model: exports.WorldModel,
  caches: dict[str, cache.Cache],
  split: str,
) -> Sequence[diagnostic.Batch]:
  """Windows of recorded episodes."""
  table = caches[split]
  batches = windows.cached_windows(
    table,
    num_frames=diagnosing.horizon + 1,
    stride=model.model.stride,
    batch_size=_BATCH_SIZE,
    seed=diagnosing.seed,
    columns=columns.seeing(table.columns, model.observation_spec),
    skip_short_episodes=True,
    num_threads=0,
  )
  return [
    jax.tree.map(np.copy, dict(batch))
    for batch in itertools.islice(batches, _NUM_BATCHES)
  ]


def _clips(
  diagnosing: Diagnosing, model: exports.WorldModel, data: str, split: str
) -> Sequence[diagnostic.Batch]:
  """Clips for a model without actions, with their labels or states."""
  counts = {'train': 4 * _NUM_CLIPS, 'validation': 2, 'held_out': _NUM_CLIPS}
  dataset = probe_data.load(
    data,
    counts,
    image_size=model.image_size,
    num_frames=model.model.clip_length or 1,
    frame_stride=model.model.stride,
    seed=diagnosing.seed,
    background=probe_data.background_of(model, data, None) or 'none',
    observed=list(model.observation_spec),
  )
  clips = dataset.splits[split]
  whole: dict[str, Any] = {'observation': clips.observation}
  if 'label' in clips.targets:
    whole['label'] = clips.targets['label']
  if 'state' in clips.targets:
    length = len(next(iter(clips.observation.values()))[0])
    whole['state'] = np.repeat(clips.targets['state'][:, None], length, 1)
  parts = [
    jax.tree.map(lambda x, first=first: x[first : first + _BATCH_SIZE], whole)
    for first in range(0, counts[split], _BATCH_SIZE)
  ]
  drawn = draws.DrawnBatches(iter(parts), model.model, seed=diagnosing.seed)
  return [next(drawn) for _ in parts]
