"""Commands that work in seconds, and what is compared of what they leave."""

import dataclasses
import os
import pathlib
import shutil

from jepa_wm import files
from tests.stress import forks

_TINY_SEARCH = '--num_samples=4', '--num_elites=2', '--num_iterations=1'
_TINY_RUN = (
  *('--config.num_steps=4', '--config.log_every=2', '--config.eval_every=2'),
  *('--config.checkpoint_every=2', '--config.data.batch_size=4'),
  *('--config.data.num_eval_windows=4', '--config.data.path=walks'),
)


@dataclasses.dataclass(frozen=True)
class Work:
  """A command in a folder of its own.

  Attributes:
    module: of the command.
    argv: its arguments; what they name lies in the folder.
    needs: what of `things` lies there.
    out: folder that it writes.
    most: kill points at most that are tried; all by default.
    written: endings of files whose bytes are results.
  """

  module: str
  argv: tuple[str, ...]
  needs: tuple[str, ...] = ()
  out: str = 'out'
  most: int = 10_000
  written: tuple[str, ...] = ('.safetensors', '.npy', '.csv', '.stablehlo')

  def prepare(self, things: pathlib.Path, folder: pathlib.Path) -> None:
    """Makes the folder, with what the command needs in it."""
    folder.mkdir(parents=True)
    (folder / 'experiments').symlink_to(forks.ROOT / 'experiments')
    for name in self.needs:
      if (things / name).is_dir():
        shutil.copytree(things / name, folder / name)
      else:
        shutil.copy(things / name, folder / name)

  def left(self, folder: pathlib.Path) -> dict[str, str]:
    """Every file that is there now, with a digest of those that are results."""
    found = {}
    for path in sorted(folder.rglob('*')):
      name = str(path.relative_to(folder))
      if any(x in name for x in ('tensorboard/', '/compiled/', '/arrays/')):
        continue  # Named by the time, or by chance.
      is_result = path.is_file() and (
        name.endswith(self.written) or '.array_record' in name
      )
      # Tables name checkpoints, which may be below the folder.
      here = os.fsencode(folder) if name.endswith('.csv') else b''
      content = path.read_bytes().replace(here, b'') if is_result else b''
      found[name] = files.digest(content) if is_result else ''
    return found


WORKS = {
  'collect': Work(
    'experiments.collect',
    (
      *('--out=out', '--num_episodes=4', '--image_size=16'),
      *('--held_out_fraction=0.25', '--episode_length=30'),
      '--min_episode_length=5',
    ),
  ),
  'convert': Work(
    'experiments.convert',
    ('--source=swm.h5', '--out=out', '--image_size=16'),
    ('swm.h5',),
  ),
  'train': Work(
    'experiments.train',
    ('--config=config.py', '--workdir=out'),
    ('config.py', 'walks'),
    most=90,
  ),
  'train_head': Work(
    'experiments.train',
    (
      '--config=experiments/configs/heads.py:policy_tiny', '--workdir=out',
      '--config.frozen_encoder=model', *_TINY_RUN,
    ),
    ('model', 'walks'),
    most=60,
  ),
  'train_agent': Work(
    'experiments.train_agent',
    (
      '--agent=imagination_tiny', '--workdir=out',
      '--config.frozen_encoder=model',
    ),
    ('model',),
    most=10,
  ),
  'plan': Work(
    'experiments.plan',
    (
      '--checkpoint=model', '--num_pairs=2', '--num_seeds=2',
      '--diagnostics=', '--out=out', *_TINY_SEARCH,
    ),
    ('model',),
    most=40,
  ),
  'probe': Work(
    'experiments.probe',
    (
      '--checkpoint=model', '--probe=linear', '--num_train=8',
      '--num_validation=4', '--num_test=4', '--num_steps=2',
      '--learning_rates=0.01', '--weight_decays=0.01', '--out=out',
    ),
    ('model',),
  ),
  'export': Work(
    'experiments.export',
    ('--checkpoint=model', '--what=encode,advance', '--out=out'),
    ('model',),
  ),
  'ablate': Work(
    'tests.stress.tiny_ablation:run', ('out',), ('config.py',), most=16
  ),
}  # fmt: skip
"""By name."""

KILLED = {
  **WORKS,
  'convert_chunks': Work(
    'experiments.convert',
    (
      *('--source=lerobot', '--out=data/out', '--image_size=16'),
      *('--store=chunks', '--pixels=observation.images.top'),
    ),
    ('lerobot',),
    out='data/out',
  ),
  'train_online': Work(
    'experiments.train_agent',
    ('--agent=online_tiny', '--workdir=out', '--config.num_steps=4'),
    most=8,
  ),
}
"""What is killed: those, and more of their kinds."""
