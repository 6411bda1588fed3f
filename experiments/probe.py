"""Says what can be read off a model's frozen representation.

  python -m experiments.probe

trains the same probe on the shipped model's latents, on those of a fresh
encoder of the same architecture, and on pixels, and prints how well each tells
where the agent is in Two Room. With a model of your own:

  python -m experiments.probe --checkpoint=runs/vjepa --data=digits

Of every probe a grid of learning rates and weight decays is trained at once,
the best on a validation split is chosen, and a third split is reported. The
folder `--out` receives `results.json`, `probe.png` and, for a model with patch
tokens, `pca.png`: their principal components as colours; where it was trained
on masks, `masks.png` shows some.
"""

import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from absl import app, flags, logging

from experiments import command_line, probe_data
from jepa_wm import exports, files, models, provenance, sharding, world_model
from jepa_wm.data import digits
from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import (
  diagnostic,
  probe_training,
  representations,
)
from jepa_wm.evaluation.planning import planning_benchmark
from jepa_wm.evaluation.report import probe_report
from jepa_wm.networks import probes

FLAGS = flags.FlagValues()

_CHECKPOINT = flags.DEFINE_string(
  'checkpoint',
  'two_room_small',
  'Folder of a training run or an export, or the name of a shipped checkpoint.',
  flag_values=FLAGS,
)
_PROBE = flags.DEFINE_enum(
  'probe',
  'attentive',
  list(probes.PROBES),
  "'linear' and 'mlp' read the mean of the tokens, 'attentive' attends.",
  flag_values=FLAGS,
)
_DATA = flags.DEFINE_string(
  'data',
  None,
  "A world such as 'two_room' (simulated), 'digits', 'tfds:NAME' (on disk "
  'already), or a folder that experiments.collect wrote; by default what the '
  'checkpoint was trained on.',
  flag_values=FLAGS,
)
_BACKGROUND = flags.DEFINE_enum(
  'background',
  None,
  list(digits.BACKGROUNDS),
  'What is behind the digits; by default what the model was trained with.',
  flag_values=FLAGS,
)
_DEPTH = flags.DEFINE_integer(
  'depth', 1, 'Blocks of an attentive probe (V-JEPA 1: 1, V-JEPA 2: 4).',
  lower_bound=1, flag_values=FLAGS,
)  # fmt: skip
_WIDTH = flags.DEFINE_integer(
  'width',
  64,
  'Size that an attentive probe brings all tokens to, so that it is the same '
  'for every representation; 0 takes them as they come, as published.',
  lower_bound=0,
  flag_values=FLAGS,
)
_NUM_HEADS = flags.DEFINE_integer(
  'num_heads', 4, 'Of an attentive probe.', lower_bound=1, flag_values=FLAGS
)
_HIDDEN_DIM = flags.DEFINE_integer(
  'hidden_dim', 256, 'Of the mlp probe.', lower_bound=1, flag_values=FLAGS
)
_NUM_TRAIN = flags.DEFINE_integer(
  'num_train', 2000, 'Clips to train on.', lower_bound=2, flag_values=FLAGS
)
_NUM_VALIDATION = flags.DEFINE_integer(
  'num_validation', 500, 'Clips to choose on.', lower_bound=2, flag_values=FLAGS
)
_NUM_TEST = flags.DEFINE_integer(
  'num_test', 1000, 'Clips to report on.', lower_bound=2, flag_values=FLAGS
)
_NUM_FRAMES = flags.DEFINE_integer(
  'num_frames',
  None,
  "Frames of a clip; by default the model's own, 1 where it takes single ones.",
  lower_bound=1,
  flag_values=FLAGS,
)
_LEARNING_RATES = flags.DEFINE_multi_float(
  'learning_rates',
  list(probe_training.Training.learning_rates),
  'Of the grid; once for each.',
  flag_values=FLAGS,
)
_WEIGHT_DECAYS = flags.DEFINE_multi_float(
  'weight_decays',
  list(probe_training.Training.weight_decays),
  'Of the grid; once for each.',
  flag_values=FLAGS,
)
_NUM_STEPS = flags.DEFINE_integer(
  'num_steps',
  probe_training.Training.num_steps,
  'Updates of a probe.',
  flag_values=FLAGS,
)
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size',
  probe_training.Training.batch_size,
  'Clips of an update.',
  flag_values=FLAGS,
)
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Of clips, probes and the fresh encoder.', lower_bound=0,
  flag_values=FLAGS,
)  # fmt: skip
_PCA = flags.DEFINE_bool(
  'pca',
  True,
  'Whether to draw patch features as colours, and masks.',
  flag_values=FLAGS,
)
_OUT = flags.DEFINE_string(
  'out', 'outputs/probe', 'Folder for the files.', flag_values=FLAGS
)

_PIXEL_PATCHES = 8  # Along a side, for models without patches of their own.


def run(*, show_progress: bool = True) -> list[dict[str, Any]]:
  """Does what the flags say.

  Args:
    show_progress: whether to draw progress bars.

  Returns:
    The records that were written.

  Raises:
    OSError: no checkpoint, no data, or a folder that cannot be written.
    ValueError: a broken checkpoint, or flags that contradict each other.
  """
  training = probe_training.Training(
    learning_rates=tuple(_LEARNING_RATES.value),
    weight_decays=tuple(_WEIGHT_DECAYS.value),
    num_steps=_NUM_STEPS.value,
    batch_size=_BATCH_SIZE.value,
    seed=_SEED.value,
  )
  if _WIDTH.value % _NUM_HEADS.value:
    raise ValueError(
      f'width must be a multiple of num_heads={_NUM_HEADS.value}, or 0, got '
      f'{_WIDTH.value}.'
    )
  model = exports.WorldModel.from_checkpoint(_CHECKPOINT.value)
  out = files.writable(pathlib.Path(_OUT.value))
  data = _DATA.value or _trained_on(model)
  background = _background(model, data)
  dataset = probe_data.load(
    data,
    {
      'train': _NUM_TRAIN.value,
      'validation': _NUM_VALIDATION.value,
      'held_out': _NUM_TEST.value,
    },
    image_size=model.image_size,
    num_frames=_num_frames(model.model),
    frame_stride=model.model.stride,
    seed=_SEED.value,
    background=background or 'none',
  )
  records = []
  for name, tokens_fn in _representations(model).items():
    began = time.perf_counter()
    with _Bar(f'{name}: tokens', len(dataset.splits), show_progress) as bar:
      tokens = {
        split: representations.collect(
          tokens_fn, clips.observation, progress_fn=bar.part(number)
        )
        for number, (split, clips) in enumerate(dataset.splits.items())
      }
    for target in sorted(dataset.splits['train'].targets):
      outcome = _train(tokens, dataset, target, name, training, show_progress)
      records.append(
        {
          'representation': name,
          'target': target,
          'scores': outcome.scores,
          'chosen': outcome.chosen,
          'validation': outcome.validation,
          'tokens': list(tokens['train'].shape[1:]),
          'probe': _probe_record(),
          'training': {**vars(training), 'num_examples': _NUM_TRAIN.value},
          'data': data,
          **({'background': background} if background else {}),
          'num_frames': _seen(dataset, 'train').shape[1],
          'checkpoint': _CHECKPOINT.value,
          'seed': _SEED.value,
          'device': sharding.device_description(),
          'versions': provenance.versions(),
          'commit': provenance.commit(),
          'command': command_line.again('experiments.probe', FLAGS),
          'seconds': round(time.perf_counter() - began, 1),
        }
      )
    del tokens  # Before the next ones are made.
  print(f'\n{probe_report.table(records)}\n', flush=True)
  planning_benchmark.write_results(records, out / 'results.json')
  pictures = {'probe.png': probe_report.draw(records)}
  if _PCA.value:
    pictures |= _pictures(model, dataset)
  for file, content in pictures.items():
    files.write_whole(out / file, content)
  print(f'{out}: {", ".join(["results.json", *pictures])}')
  return records


def _num_frames(model: models.Encodes) -> int:
  """Frames of a clip: the model's own number where it encodes clips.

  Raises:
    ValueError: others were asked for than such a model takes.
  """
  asked = _NUM_FRAMES.value
  if model.clip_length is None:
    return asked or 1
  tubelet_size = _tubelet_size(model)
  if asked and asked % tubelet_size:
    raise ValueError(
      f'num_frames must be a multiple of the {tubelet_size} frames that a '
      f'token of {model.config.name} spans, got {asked}.'
    )
  return asked or model.clip_length


def _tubelet_size(model: models.Encodes) -> int:
  """Frames that a token spans."""
  if model.clip_length is None or model.token_grid is None:
    return 1
  return model.clip_length // model.token_grid[0]


def _seen(dataset: probe_data.Dataset, split: str) -> np.ndarray:
  """Pixels uint8 `[N, T, height, width, 3]` of a split."""
  return dataset.splits[split].observation['pixels']


def _trained_on(model: world_model.WorldModel) -> str:
  """What a model was trained on, as `--data` would say it.

  Raises:
    ValueError: its record does not say, or it is a world that must be recorded.
  """
  trained = model.record.get('config', {}).get('data', {})
  source = trained.get('source', 'cache')
  if source not in ('cache', 'simulation'):
    return source
  name = trained.get('environment')
  if name in worlds.WORLDS and not worlds.get(name).on_host:
    return name
  raise ValueError(
    f'{_CHECKPOINT.value} was trained on data of the world {name!r}, which '
    'cannot be simulated here; name a folder of its episodes with --data.'
    if name
    else f'{_CHECKPOINT.value} does not say what it was trained on; name it '
    "with --data, a world such as 'two_room' or a folder of episodes."
  )


def _background(model: world_model.WorldModel, data: str) -> str | None:
  """What is behind the digits; None where there are none.

  Raises:
    ValueError: one was asked for that no digits will stand before.
  """
  if data != 'digits':
    if _BACKGROUND.value is not None:
      raise ValueError(
        f'background={_BACKGROUND.value!r} is for --data=digits, and the data '
        f'is {data!r}; leave one of the two out.'
      )
    return None
  trained = model.record.get('config', {}).get('data', {})
  return _BACKGROUND.value or trained.get('background', 'none')


def _representations(
  model: world_model.WorldModel,
) -> dict[str, representations.TokensFn]:
  """What is compared, under the names of the table's rows."""
  grid = model.model.token_grid
  patch_size = model.image_size // (grid[-1] if grid else _PIXEL_PATCHES)
  patch_size = max(1, patch_size)
  while model.image_size % patch_size:
    patch_size -= 1
  return {
    model.model.config.name: representations.of_model(
      model.model, model.params
    ),
    'random encoder': representations.of_random_encoder(
      model.model, jax.random.key(_SEED.value)
    ),
    'pixels': representations.of_pixels(
      patch_size=patch_size,
      tubelet_size=_tubelet_size(model.model),
      whole_frames=_PROBE.value != 'attentive',
    ),
  }


def _train(
  tokens: dict[str, jax.Array],
  dataset: probe_data.Dataset,
  target: str,
  name: str,
  training: probe_training.Training,
  show_progress: bool,
) -> probe_training.Outcome:
  """One grid of probes of one target."""
  names = () if target == 'label' else dataset.state_names
  features = len(names) or dataset.num_classes
  probe: Any
  if _PROBE.value == 'attentive':
    probe = probes.AttentiveProbe(
      features=features,
      num_heads=_NUM_HEADS.value,
      depth=_DEPTH.value,
      width=_WIDTH.value or None,
    )
  else:
    hidden_dim = _HIDDEN_DIM.value if _PROBE.value == 'mlp' else None
    probe = probes.PooledProbe(features=features, hidden_dim=hidden_dim)
  with _Bar(f'{name}: {target} probes', 1, show_progress) as bar:
    return probe_training.train(
      probe,
      {
        split: probe_training.Examples(
          tokens[split], jnp.asarray(clips.targets[target])
        )
        for split, clips in dataset.splits.items()
      },
      target_names=names,
      training=training,
      progress_fn=bar.part(0),
    )


def _probe_record() -> dict[str, Any]:
  """The probe, as it stands in a record."""
  record: dict[str, Any] = {'name': _PROBE.value}
  if _PROBE.value == 'attentive':
    record |= {
      'depth': _DEPTH.value,
      'width': _WIDTH.value or None,
      'num_heads': _NUM_HEADS.value,
    }
  elif _PROBE.value == 'mlp':
    record['hidden_dim'] = _HIDDEN_DIM.value
  return record


def _pictures(
  model: world_model.WorldModel, dataset: probe_data.Dataset
) -> dict[str, bytes]:
  """`pca.png` and `masks.png` of a held-out clip, where the model has such."""
  seen = {'observation': dataset.splits['held_out'].observation}
  episodes = diagnostic.Episodes(lambda split: [seen])
  rng_key = jax.random.key(_SEED.value)
  return {
    file: content
    for ask in diagnostic.named(['feature_maps', 'masks'])
    for file, content in ask(model, episodes, rng_key).figures.items()
    if '_dark' not in file
  }


class _Bar:
  """A progress bar over a few parts that each go from 0 to 1."""

  def __init__(self, title: str, num_parts: int, show: bool):
    self._bar = tqdm.tqdm(
      total=100 * num_parts,
      desc=title,
      disable=not show,
      bar_format='{desc:28} {bar:24} {percentage:3.0f}% {elapsed}<{remaining}',
    )

  def __enter__(self) -> '_Bar':
    return self

  def __exit__(self, *_: object) -> None:
    self._bar.close()

  def part(self, number: int) -> Callable[[float], None]:
    """Takes the share of part `number` that is done."""

    def report(share: float) -> None:
      self._bar.update(round(100 * (number + share)) - self._bar.n)

    return report


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses the command line; returns the arguments that are no flags."""
  return command_line.parse(FLAGS, list(argv))


def main(argv: list[str]) -> None:
  """Reads the flags, probes, and ends in one sentence whatever happens."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}.')
  try:
    run()
  except KeyboardInterrupt:
    sys.exit('Interrupted; no result was written.')
  except (ValueError, OSError) as error:
    logging.debug('%s', error, exc_info=True)  # Shown by --verbosity=1.
    sys.exit(str(error))


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
