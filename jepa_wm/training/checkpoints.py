"""Checkpoints of a run on disk: whole or not there, and known to be intact.

One folder a step, `step_00001000/`:

  `arrays/`        the train state, written by Orbax
  `record.json`    the data iterator's state, the config, the action statistics
  `manifest.json`  size and CRC-32 of every other file

It is written under a hidden name and renamed when all of it is on the disk, so
a run killed at any moment leaves only whole checkpoints behind. The manifest is
checked before a byte is used: Orbax reads a cut-off array as an error at best.
"""

import contextlib
import importlib
import json
import os
import pathlib
import shutil
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jepa_wm import files, processes

FORMAT = 1
"""Raised when an old checkpoint can no longer be read."""


# Fields of a run that it may be made longer by.
_MAY_GROW = ('num_steps', 'optimizer.num_steps')


class CheckpointError(ValueError):
  """A checkpoint that cannot be used, in one sentence."""


def save(
  directory: str | os.PathLike[str],
  state: Any,
  record: Mapping[str, Any],
  *,
  keep: int = 3,
) -> pathlib.Path:
  """Writes a checkpoint, then removes the oldest beyond `keep`.

  Waits until all is on disk, so the caller may donate `state` afterwards. Of
  several processes each writes its part of the arrays, and the first one the
  rest; all return when it is there.

  Args:
    directory: of all checkpoints of the run; made where missing.
    state: pytree of arrays with an integer `step`.
    record: what else the run needs, in JSON's types.
    keep: checkpoints left on disk, at least 1.

  Returns:
    The folder of the new checkpoint.

  Raises:
    CheckpointError: this step is there already, or the disk is full.
    ValueError: `keep` below 1.
  """
  import orbax.checkpoint as ocp

  if keep < 1:
    raise ValueError(f'keep must be at least 1 checkpoint, got {keep}.')
  directory = files.expand(directory).absolute()
  final = directory / _name(state.step)
  try:
    with contextlib.ExitStack() as stack:
      writing = pathlib.Path(
        processes.from_first(lambda: str(_opened(final, state, stack)))
      )
      with _checkpointer() as checkpointer:
        arrays = ocp.args.StandardSave(_one_of_each(state))
        checkpointer.save(writing / 'arrays', args=arrays)
      about = {'step': int(state.step), 'arrays': _arrays(state)}
      record = {'format': FORMAT, **record, **about}
      processes.from_first(lambda: _describe(writing, record, stack))
  except (CheckpointError, processes.ElsewhereError):
    raise
  # Orbax and TensorStore raise many types, a bare Exception among them.
  except Exception as error:
    raise CheckpointError(
      f'Checkpoint {final} could not be written ({_first_line(error)}); put '
      'that right, then run the same command again'
      + _continuing_from(steps(directory))
    ) from error
  processes.from_first(lambda: _remove(steps(directory)[:-keep]))
  return final


def _opened(
  final: pathlib.Path, state: Any, stack: contextlib.ExitStack
) -> pathlib.Path:
  """The folder to write into, until `stack` is closed."""
  if final.exists():
    raise CheckpointError(f'Checkpoint {final} exists already.')
  final.parent.mkdir(parents=True, exist_ok=True)
  _clear(final.parent)
  # Orbax would fail as well, with tracebacks from its threads.
  check_room(final.parent, state)
  return stack.enter_context(files.folder_written_whole(final))


def _describe(
  writing: pathlib.Path, record: Mapping[str, Any], stack: contextlib.ExitStack
) -> None:
  """Writes what is beside the arrays, and puts the folder in its place."""
  (writing / 'record.json').write_text(json.dumps(record, indent=1))
  manifest = {
    str(path.relative_to(writing)): _fingerprint(path, sync=True)
    for path in _files(writing)
  }
  (writing / 'manifest.json').write_text(json.dumps(manifest, indent=1))
  _fingerprint(writing / 'manifest.json', sync=True)
  stack.close()


def tidy(directory: str | os.PathLike[str], *, keep: int) -> None:
  """Removes what a killed run has left to be removed.

  Args:
    directory: of all checkpoints of the run; need not exist.
    keep: how many of the newest stay on disk.

  Raises:
    OSError: it cannot be removed.
  """
  _clear(files.expand(directory))
  _remove(steps(directory)[:-keep])


def _clear(directory: pathlib.Path) -> None:
  """Removes what was being written, or removed, when a run was killed."""
  for leftover in directory.glob('.*step_*'):
    shutil.rmtree(leftover)


def _remove(folders: list[pathlib.Path]) -> None:
  for folder in folders:
    files.remove_folder(folder)


def check_room(
  directory: str | os.PathLike[str], state: Any, *, count: int = 1
) -> None:
  """Refuses what the disk cannot hold.

  Args:
    directory: an existing one on the disk in question.
    state: of which checkpoints are to be written.
    count: how many of them.

  Raises:
    OSError: there is less room.
  """
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  # Arrays hardly compress; a megabyte is for what Orbax notes beside them.
  needed = count * (1.1 * size + 2**20)
  free = shutil.disk_usage(directory).free
  if free < needed:
    raise OSError(
      f'{directory} has {free / 1e6:.1f} MB left where {count} checkpoints '
      f'need {needed / 1e6:.1f} MB: make room, choose another workdir or keep '
      'fewer checkpoints'
    )


def steps(directory: str | os.PathLike[str]) -> list[pathlib.Path]:
  """Folders of the checkpoints in `directory`, oldest first, none opened."""
  return sorted(files.expand(directory).glob('step_????????'))


def latest(directory: str | os.PathLike[str]) -> pathlib.Path | None:
  """The newest checkpoint, checked to be intact.

  A damaged one is reported and not passed over: going back costs time, which
  is the user's to spend.

  Args:
    directory: of all checkpoints of a run; need not exist.

  Returns:
    Its folder, or None where there is none.

  Raises:
    CheckpointError: the newest is damaged; says which one before it is good
      and how to go on from there.
  """
  found = steps(directory)
  if not found:
    return None
  fault = _fault(found[-1])
  if fault is None:
    return found[-1]
  good = [path for path in found[:-1] if _fault(path) is None]
  bad = [path for path in found if path not in good]
  bad = [path for path in bad if not good or path > good[-1]]
  remove = 'rm -r ' + ' '.join(str(path) for path in bad)
  raise CheckpointError(
    f'Checkpoint {found[-1]} is damaged ({fault}); remove it with `{remove}` '
    'and run the same command again' + _continuing_from(good)
  )


def newest(directory: str | os.PathLike[str]) -> pathlib.Path | None:
  """What `latest` finds in the first process, for all of them."""

  def look() -> str | None:
    found = latest(directory)
    return None if found is None else str(found)

  path = processes.from_first(look)
  return None if path is None else pathlib.Path(path)


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
  """The record saved with a checkpoint.

  Args:
    path: a folder that `latest` returned.

  Raises:
    CheckpointError: it is of another format.
  """
  path = files.expand(path)
  record = json.loads((path / 'record.json').read_text())
  if record['format'] != FORMAT:
    raise CheckpointError(
      f'Checkpoint {path} has format {record["format"]} and this version of '
      f'jepa_wm reads {FORMAT}; train again, or use the version it was made '
      'with.'
    )
  return record


def restore(path: str | os.PathLike[str], like: Any) -> Any:
  """The train state saved in a folder, to the bit.

  Args:
    path: a folder that `latest` returned.
    like: pytree of arrays or shapes with the structure, dtypes and shardings
      wanted.

  Raises:
    CheckpointError: the state is of another model than `like`.
  """
  import orbax.checkpoint as ocp

  path = files.expand(path).absolute()
  saved, wanted = read_record(path)['arrays'], _arrays(like)
  for name in sorted(saved.keys() | wanted.keys()):
    if saved.get(name) != wanted.get(name):
      raise CheckpointError(
        f'Checkpoint {path} holds {saved.get(name, "no array")} for '
        f'{name.lstrip(".")} where this model has '
        f'{wanted.get(name, "none")}; it is of another version of the code: '
        'train again in an empty workdir.'
      )
  abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
  with _checkpointer() as checkpointer:
    return checkpointer.restore(
      path / 'arrays', args=ocp.args.StandardRestore(abstract)
    )


def check_same_run(
  path: str | os.PathLike[str],
  record: Mapping[str, Any],
  expected: Mapping[str, Any],
) -> None:
  """Refuses to go on with another run's checkpoint.

  A run that is now longer is the same one: it goes on, and its schedules are
  the longer one's from there.

  Args:
    path: the checkpoint, for the message.
    record: its record.
    expected: nested dict in JSON's types; every leaf of it, and no other, must
      be in `record`.

  Raises:
    CheckpointError: names the first field that differs.
  """
  saved = dict(_leaves({key: record.get(key) for key in expected}))
  wanted = dict(_leaves(expected))
  for name in sorted(saved.keys() | wanted.keys()):
    both: list[Any] = [saved.get(name), wanted.get(name)]
    longer = name in _MAY_GROW and None not in both and both[0] < both[1]
    if both[0] != both[1] and not longer:
      raise CheckpointError(
        f'Checkpoint {path} was made with {name} = {saved.get(name)!r} and '
        f'this run has {wanted.get(name)!r}; choose an empty workdir, or the '
        'config it was made with.'
      )


def _checkpointer() -> Any:
  """Orbax's, which does not ask TensorStore how many bytes it has moved.

  What it answers, for a line in a log, is never freed: 14 kB a checkpoint.
  """
  import orbax.checkpoint as ocp

  with contextlib.suppress(ImportError):
    asked: Any = importlib.import_module(
      'orbax.checkpoint._src.serialization.tensorstore_utils'
    )
    asked.get_tensorstore_raw_bytes = lambda *args, **kwargs: 0
  return ocp.Checkpointer(ocp.StandardCheckpointHandler())


def _one_of_each(state: Any) -> Any:
  """The first copy of what every device of one process has a copy of.

  Of copies Orbax lets each device write a slice, and compiles a program for
  every slice: nearly two hundred of a small model on eight devices.
  """
  if jax.process_count() > 1:
    return state
  return jax.tree.map(
    lambda x: x.addressable_data(0) if x.is_fully_replicated else x, state
  )


def _arrays(state: Any) -> dict[str, str]:
  """Name, dtype and shape of every array of a state, in words."""
  return {
    jax.tree_util.keystr(path): f'{leaf.dtype} {list(leaf.shape)}'
    for path, leaf in jax.tree.leaves_with_path(state)
  }


def _leaves(tree: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Dotted names and values; sequences count as one value."""
  if isinstance(tree, Mapping):
    for key, value in tree.items():
      yield from _leaves(value, f'{prefix}.{key}' if prefix else str(key))
  else:
    yield prefix, list(tree) if isinstance(tree, tuple) else tree


def _fault(path: pathlib.Path) -> str | None:
  """What is wrong with the files of a checkpoint, or None."""
  try:
    manifest = json.loads((path / 'manifest.json').read_text())
    for name, expected in manifest.items():
      if _fingerprint(path / name) != expected:
        return f'{name} is cut off or altered'
    step = json.loads((path / 'record.json').read_text()).get('step')
    if step is not None and path.name != _name(step):
      return f'by its record it is {_name(step)}'
  except NotADirectoryError:
    return 'it is no folder'
  except FileNotFoundError as error:
    return f'{pathlib.Path(error.filename).relative_to(path)} is missing'
  except (AttributeError, RecursionError, TypeError, ValueError):
    return 'manifest.json is cut off or altered'
  return None


def _name(step: Any) -> str:
  return f'step_{int(step):08d}'


def _files(path: pathlib.Path) -> list[pathlib.Path]:
  return sorted(file for file in path.rglob('*') if file.is_file())


def _fingerprint(path: pathlib.Path, *, sync: bool = False) -> list[int]:
  """Size and CRC-32 of a file; `sync` makes sure it has reached the disk."""
  size = crc = 0
  with path.open('rb') as file:
    while block := file.read(1 << 20):
      size, crc = size + len(block), zlib.crc32(block, crc)
    if sync:
      os.fsync(file.fileno())
  return [size, crc]


def _continuing_from(good: list[pathlib.Path]) -> str:
  """The end of a sentence that says where a run would go on."""
  if good:
    return f' to continue from {good[-1]}, the last good one.'
  return ' to start from the beginning: there is no other good one.'


def _first_line(error: BaseException) -> str:
  lines = str(error).strip().splitlines()
  return lines[0][:200] if lines else type(error).__name__
