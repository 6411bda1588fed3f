"""Writes `.pt` files as PyTorch does, without PyTorch."""

import struct
import zipfile

import numpy as np
import pytest


def _text(text):
  return b'X' + struct.pack('<I', len(text.encode())) + text.encode()


def _integer(number):
  return b'J' + struct.pack('<i', number)


def _tensor(array, key):
  """A float32 tensor over a storage of its own."""
  strides = [x // array.itemsize for x in array.strides]
  shape = b'(' + b''.join(map(_integer, array.shape)) + b't'
  strides = b'(' + b''.join(map(_integer, strides)) + b't'
  return (
    b'ctorch._utils\n_rebuild_tensor_v2\n(('
    + _text('storage')
    + b'ctorch\nFloatStorage\n'
    + _text(key)
    + _text('cpu')
    + _integer(array.size)
    + b'tQ'
    + _integer(0)
    + shape
    + strides
    + b'\x89ccollections\nOrderedDict\n)RtR'
  )


def write(path, content):
  """Nested dicts of arrays, texts, integers, floats and None, as torch.save."""
  storages = []

  def describe(value):
    if isinstance(value, dict):
      items = b''.join(describe(x) for pair in value.items() for x in pair)
      return b'}(' + items + b'u'
    if isinstance(value, np.ndarray):
      storages.append(np.ascontiguousarray(value, np.float32))
      return _tensor(storages[-1], str(len(storages) - 1))
    if isinstance(value, float):
      return b'G' + struct.pack('>d', value)
    if value is None:
      return b'N'
    return _text(value) if isinstance(value, str) else _integer(value)

  pickled = b'\x80\x02' + describe(content) + b'.'
  with zipfile.ZipFile(path, 'w') as container:
    container.writestr('archive/data.pkl', pickled)
    container.writestr('archive/byteorder', b'little')
    for key, storage in enumerate(storages):
      container.writestr(f'archive/data/{key}', storage.tobytes())
  return path


@pytest.fixture(scope='session')
def write_torch():
  return write
