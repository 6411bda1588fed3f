"""Trains probes on a model's frozen representation, and on two others.

The same probe is trained on the model's latents, on those of a fresh encoder of
the same architecture, and on pixels. Of every probe a grid of learning rates
and weight decays is trained at once, the best on a validation split is chosen,
and a third split is reported.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jepa_wm import (
  bounds,
  exports,
  fields,
  files,
  models,
  provenance,
  renames,
  sharding,
  world_model,
)
from jepa_wm.data import digits
from jepa_wm.evaluation.diagnostics import (
  diagnostic,
  fine_tuning,
  probe_training,
  representations,
)
from jepa_wm.evaluation.planning import planning_benchmark
from jepa_wm.evaluation.report import probe_report
from jepa_wm.networks import probes
from jepa_wm.recipes import bars, probe_data, probe_frames, result_folders
from jepa_wm.types import Variables

_DEFAULTS = probe_training.Training()
_LEAST = {
  'depth': 1,
  'width': 0,
  'num_heads': 1,
  'hidden_dim': 1,
  'num_train': 2,
  'num_validation': 2,
  'num_test': 2,
  'num_frames': 1,
  'num_clips': 1,
  'layers': 1,
  'seed': 0,
}

_LAST = probe_training.SPLITS[-1]
_PIXEL_PATCHES = 8  # Along a side, for models without patches of their own.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probing:
  """What is read off which model, by what probe, and where the files go.

  Attributes:
    checkpoint: folder of a training run or an export, or the name of a shipped
      checkpoint.
    probe: 'linear' and 'mlp' read the mean of the tokens, 'attentive' attends.
    data: a world such as 'two_room' (simulated), 'digits', 'tfds:NAME' (on disk
      already), or a folder that experiments.collect wrote; by default what the
      checkpoint was trained on.
    background: what is behind the digits; by default what the model was trained
      with.
    depth: blocks of an attentive probe (V-JEPA 1: 1, V-JEPA 2: 4).
    width: size that an attentive probe brings all tokens to, so that it is the
      same for every representation; 0 takes them as they come, as published.
    num_heads: of an attentive probe.
    hidden_dim: of the mlp probe.
    num_train: clips to train on.
    num_validation: clips to choose on.
    num_test: clips to report on.
    num_frames: frames of a clip; by default the model's own, 1 where it takes
      single ones.
    num_clips: clips of a video that is reported on, of which the predictions
      are averaged (V-JEPA, Table 14).
    layers: depths of the encoder whose tokens are read, of V-JEPA and I-JEPA
      (V-JEPA 2, Table 17: 4).
    fine_tune: whether the model learns along with the probe (V-JEPA, Table 15);
      what it is compared with stays as it is.
    learning_rates: of the grid.
    weight_decays: of the grid.
    num_steps: updates of a probe.
    batch_size: clips of an update.
    seed: of clips, probes and the fresh encoder.
    pca: whether to draw patch features as colours, and masks.
    out: folder for the files.
  """

  checkpoint: str = 'two_room_small'
  probe: str = 'attentive'
  data: str | None = None
  background: str | None = None
  depth: int = 1
  width: int = 64
  num_heads: int = 4
  hidden_dim: int = 256
  num_train: int = 2000
  num_validation: int = 500
  num_test: int = 1000
  num_frames: int | None = None
  num_clips: int = 1
  layers: int = 1
  fine_tune: bool = False
  learning_rates: tuple[float, ...] = _DEFAULTS.learning_rates
  weight_decays: tuple[float, ...] = _DEFAULTS.weight_decays
  num_steps: int = _DEFAULTS.num_steps
  batch_size: int = _DEFAULTS.batch_size
  seed: int = 0
  pca: bool = True
  out: str = 'outputs/probe'

  def __post_init__(self) -> None:
    """Checks all that needs no model.

    Raises:
      ValueError: a number out of its range, or no such probe or background.
    """
    fields.check_counts(self, _LEAST, {x: bounds.most_of(x) for x in _LEAST})
    for name, known in (
      ('probe', probes.PROBES),
      ('background', digits.BACKGROUNDS),
    ):
      if getattr(self, name) is not None:
        fields.check_choice(name, getattr(self, name), known)
    self.training()
    if self.width % self.num_heads:
      raise ValueError(
        f'width must be a multiple of num_heads={self.num_heads}, or 0, got '
        f'{self.width}.'
      )

  def training(self) -> probe_training.Training:
    """How a grid of probes is trained."""
    return probe_training.Training(
      learning_rates=tuple(self.learning_rates),
      weight_decays=tuple(self.weight_decays),
      num_steps=self.num_steps,
      batch_size=self.batch_size,
      seed=self.seed,
    )

  def make_probe(self, features: int) -> Any:
    """A probe that reads so many numbers, or tells so many classes apart."""
    if self.probe == 'attentive':
      return probes.AttentiveProbe(
        features=features,
        num_heads=self.num_heads,
        depth=self.depth,
        width=self.width or None,
      )
    hidden_dim = self.hidden_dim if self.probe == 'mlp' else None
    return probes.PooledProbe(features=features, hidden_dim=hidden_dim)

  def probe_record(self) -> dict[str, Any]:
    """The probe, as it stands in a record."""
    record: dict[str, Any] = {'name': self.probe}
    if self.probe == 'attentive':
      record |= {
        'depth': self.depth,
        'width': self.width or None,
        'num_heads': self.num_heads,
      }
    elif self.probe == 'mlp':
      record['hidden_dim'] = self.hidden_dim
    return record


def probe(
  probing: Probing, *, command: str = '', show_progress: bool = True
) -> list[dict[str, Any]]:
  """Probes, prints a table and writes `results.json` and pictures.

  The pictures are `probe.png` and, for a model with patch tokens, `pca.png`:
  their principal components as colours; where it was trained on masks,
  `masks.png` shows some.

  Args:
    probing: what is asked for.
    command: how to do it again, for the records.
    show_progress: whether to draw progress bars.

  Returns:
    The records that were written.

  Raises:
    OSError: no checkpoint, no data, or a folder that cannot be written.
    ValueError: a broken checkpoint, or fields that contradict each other.
  """
  out = files.expand(probing.out)
  with result_folders.hold(out, result_folders.PROBE):
    return _probe(probing, command, show_progress)


def _probe(
  probing: Probing, command: str, show_progress: bool
) -> list[dict[str, Any]]:
  """See `probe`; nobody else works in its folder."""
  out = files.expand(probing.out)
  model = exports.WorldModel.from_checkpoint(probing.checkpoint)
  read = representations.of_layers(model.model, probing.layers)
  data = probe_data.named(probing.data, model, probing.checkpoint)
  background = probe_data.background_of(model, data, probing.background)
  dataset = probe_data.load(
    data,
    {
      'train': probing.num_train,
      'validation': probing.num_validation,
      'held_out': probing.num_test,
    },
    image_size=model.image_size,
    num_frames=probe_frames.num_frames(probing.num_frames, model.model),
    frame_stride=model.model.stride,
    seed=probing.seed,
    background=background or 'none',
    # Pixels too, of which a probe is trained beside it.
    observed=list({**model.observation_spec, 'pixels': None}),
    num_clips=probing.num_clips,
  )
  seen = dataset.splits['train'].observation['pixels']
  about = {
    'probe': probing.probe_record(),
    'training': {**vars(probing.training()), 'num_examples': probing.num_train},
    'data': data,
    **({'background': background} if background else {}),
    'num_frames': seen.shape[1],
    'num_clips': probing.num_clips,
    'layers': probing.layers,
    'fine_tune': probing.fine_tune,
    'checkpoint': probing.checkpoint,
    'seed': probing.seed,
    'device': sharding.device_description(),
    'versions': provenance.versions(),
    'commit': provenance.commit(),
    'command': command or f'recipes.probe({probing})',
  }
  records = []
  for name, tokens_fn in _representations(probing, model, read).items():
    is_tuned = probing.fine_tune and name == model.model.config.name
    tuned = (read, model.params) if is_tuned else None
    train_fn = functools.partial(_train, probing, dataset, tuned)
    # Many tokens lie here, one representation's after another's.
    with renames.scratch_folder(out / 'tokens') as folder:
      records += _probed(
        dataset, name, tokens_fn, train_fn, about, show_progress, folder
      )
  print(f'\n{probe_report.table(records)}\n', flush=True)
  planning_benchmark.write_results(records, out / 'results.json')
  pictures = {'probe.png': probe_report.draw(records)}
  if probing.pca:
    pictures |= _pictures(probing, model, dataset)
  for file, content in pictures.items():
    files.write_whole(out / file, content)
  print(f'{out}: {", ".join(["results.json", *pictures])}')
  return records


def _probed(
  dataset: probe_data.Dataset,
  name: str,
  tokens_fn: representations.TokensFn,
  train_fn: Callable[..., probe_training.Outcome],
  about: dict[str, Any],
  show_progress: bool,
  folder: pathlib.Path,
) -> list[dict[str, Any]]:
  """A record of every target that is read off one representation."""
  began = time.perf_counter()
  with bars.Bar(f'{name}: tokens', len(dataset.splits), show_progress) as bar:
    tokens = {
      split: representations.collect(
        tokens_fn,
        clips.observation,
        file=folder / f'{split}.npy',
        progress_fn=bar.part(number),
      )
      for number, (split, clips) in enumerate(dataset.splits.items())
    }
  records = []
  for target in sorted(dataset.splits['train'].targets):
    with bars.Bar(f'{name}: {target} probes', 1, show_progress) as bar:
      outcome = train_fn(tokens, target, bar.part(0))
    records.append(
      {
        'representation': name,
        'target': target,
        'scores': outcome.scores,
        'chosen': outcome.chosen,
        'validation': outcome.validation,
        'tokens': list(tokens['train'].shape[1:]),
        **about,
        'seconds': round(time.perf_counter() - began, 1),
      }
    )
  return records


def _train(
  probing: Probing,
  dataset: probe_data.Dataset,
  tuned: tuple[models.Learns, Variables] | None,
  tokens: dict[str, Any],
  target: str,
  progress_fn: Callable[[float], None],
) -> probe_training.Outcome:
  """One grid of probes of one target; what is tuned learns with them."""
  names = () if target == 'label' else dataset.state_names
  probe = probing.make_probe(len(names) or dataset.num_classes)
  splits = {
    split: (
      clips,
      clips.targets[target],
      probing.num_clips if split == _LAST else 1,
    )
    for split, clips in dataset.splits.items()
  }
  given: Any = {
    'target_names': names,
    'training': probing.training(),
    'progress_fn': progress_fn,
  }
  if tuned is None:
    examples = {
      split: probe_training.Examples(tokens[split], jnp.asarray(x), count)
      for split, (_, x, count) in splits.items()
    }
    return probe_training.train(probe, examples, **given)
  seen = {
    split: fine_tuning.Seen(
      {name: clips.observation[name] for name in tuned[0].observation_spec},
      x,
      count,
    )
    for split, (clips, x, count) in splits.items()
  }
  return fine_tuning.tune(probe, *tuned, seen, **given)


def _representations(
  probing: Probing, model: world_model.WorldModel, read: models.Learns
) -> dict[str, representations.TokensFn]:
  """What is compared, under the names of the table's rows."""
  grid = model.model.token_grid
  patch_size = model.image_size // (grid[-1] if grid else _PIXEL_PATCHES)
  patch_size = max(1, patch_size)
  while model.image_size % patch_size:
    patch_size -= 1
  return {
    model.model.config.name: representations.of_model(read, model.params),
    'random encoder': representations.of_random_encoder(
      read, jax.random.key(probing.seed)
    ),
    'pixels': representations.of_pixels(
      patch_size=patch_size,
      tubelet_size=probe_frames.tubelet_size(model.model),
      whole_frames=probing.probe != 'attentive',
    ),
  }


def _pictures(
  probing: Probing, model: world_model.WorldModel, dataset: probe_data.Dataset
) -> dict[str, bytes]:
  """`pca.png` and `masks.png` of a held-out clip, where the model has such."""
  seen = {'observation': dataset.splits['held_out'].observation}
  episodes = diagnostic.Episodes(lambda split: [seen])
  question = diagnostic.Question(model, episodes, jax.random.key(probing.seed))
  return {
    file: content
    for ask in diagnostic.named(['feature_maps', 'masks'])
    for file, content in ask(question).figures.items()
    if '_dark' not in file
  }
