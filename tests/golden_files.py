"""The golden files: what published code computed, for the parity tests.

Files of other seeds and sizes hold the same keys, so that tests take every size
and setting from them: `JEPA_WM_GOLDEN=folder` runs the tests on another set.
"""

import functools
import json
import os
import pathlib

import numpy as np

_OWN = pathlib.Path(__file__).parent / 'golden'
_GIVEN = pathlib.Path(os.environ.get('JEPA_WM_GOLDEN', _OWN))


@functools.cache
def load(name):
  """Arrays of `name`.npz, which nobody may write to, and its `meta`, or {}."""
  path = _GIVEN / f'{name}.npz'
  path = path if path.is_file() else _OWN / path.name
  with np.load(path, allow_pickle=False) as file:
    arrays = {key: file[key] for key in file.files}
  meta = json.loads(str(arrays.pop('meta', '{}')))
  for array in arrays.values():
    array.flags.writeable = False
  return arrays, meta


def state_dict(arrays):
  """The tensors of a file under their published names."""
  return {
    name.removeprefix('sd/'): x
    for name, x in arrays.items()
    if name.startswith('sd/')
  }


def close(actual, expected, tolerance, name=''):
  """Largest difference within `tolerance` of the largest expected number."""
  actual, expected = np.asarray(actual), np.asarray(expected)
  assert actual.shape == expected.shape, name
  scale = np.abs(expected).max()
  np.testing.assert_allclose(
    actual, expected, rtol=0, atol=tolerance * scale, err_msg=name
  )
