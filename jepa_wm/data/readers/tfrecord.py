"""TFRecord files: found, checked and read without TensorFlow.

A record is its length (uint64), that length's checksum, its bytes and their
checksum, all little-endian. The checksum is CRC-32C (Castagnoli), rotated and
offset by a constant so that a record may hold checksums itself.
"""

import functools
import pathlib

import numpy as np

from jepa_wm import files

_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
# Bytes are checked in lanes of about as many, side by side, then joined.
_LANE_WIDTH = 1024
_MAX_LANES = 2**14


def record_offsets(path: pathlib.Path) -> np.ndarray:
  """Where the records' bytes begin and end, int64 `[E, 2]`.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a length that does not fit its checksum, or a file cut off.
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file; copy the source again.')
  if files.is_lfs_pointer(path):
    raise files.damaged(path, '')
  size = path.stat().st_size
  found: list[tuple[int, int]] = []
  position = 0
  with path.open('rb') as file:
    while position < size:
      file.seek(position)
      header = file.read(12)
      length = int.from_bytes(header[:8], 'little')
      if len(header) < 12 or position + 16 + length > size:
        raise ValueError(
          f'{path} is cut off in record {len(found)}; copy it again.'
        )
      if masked_crc32c(header[:8]) != int.from_bytes(header[8:], 'little'):
        raise ValueError(
          f'{path} is damaged before record {len(found)} or no TFRecord file '
          '(compressed ones are not read); copy it again.'
        )
      found.append((position + 12, position + 12 + length))
      position += 16 + length
  return np.array(found, np.int64).reshape(-1, 2)


def read_record(path: pathlib.Path, begin: int, end: int) -> bytes:
  """The bytes of a record, whose checksum is compared.

  Raises:
    ValueError: they are not those that were written.
  """
  with path.open('rb') as file:
    file.seek(begin)
    data = file.read(end - begin)
    expected = int.from_bytes(file.read(4), 'little')
  if len(data) != end - begin or masked_crc32c(data) != expected:
    raise ValueError(
      f'{path} is damaged in the record at byte {begin} (its checksum is '
      'another); copy it again.'
    )
  return data


def masked_crc32c(data: bytes) -> int:
  """The checksum as TFRecord stores it."""
  crc = crc32c(data)
  return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
  """CRC-32C of bytes."""
  table = _byte_table()
  array = np.frombuffer(data, np.uint8)
  # Registers are linear in their bytes: lanes of equal length are run side by
  # side from zero, and a register followed by n bytes of another lane is the
  # register moved on by n zero bytes, added to that lane's.
  num_lanes = min(_MAX_LANES, 2 ** (len(array) // _LANE_WIDTH).bit_length())
  width = len(array) // num_lanes
  register = np.uint32(0xFFFFFFFF)
  begin = 0
  if num_lanes > 16:
    lanes = array[: width * num_lanes].reshape(num_lanes, width).T
    registers = np.zeros(num_lanes, np.uint32)
    registers[0] = register
    for row in np.ascontiguousarray(lanes):
      registers = table[(registers ^ row) & 0xFF] ^ registers >> np.uint32(8)
    move = _zero_bytes(width)
    while len(registers) > 1:
      registers = _apply(move, registers[0::2]) ^ registers[1::2]
      move = _apply(move, move)
    register = registers[0]
    begin = width * num_lanes
  value = int(register)
  rest = table.tolist()
  for byte in data[begin:]:
    value = rest[(value ^ byte) & 0xFF] ^ value >> 8
  return value ^ 0xFFFFFFFF


@functools.cache
def _byte_table() -> np.ndarray:
  """Register after one byte, for every byte."""
  table = np.arange(256)
  for _ in range(8):
    table = table >> 1 ^ np.where(table & 1, _POLYNOMIAL, 0)
  return table.astype(np.uint32)


@functools.lru_cache(maxsize=16)
def _zero_bytes(count: int) -> np.ndarray:
  """Where `count` zero bytes move each bit of a register, uint32 `[32]`."""
  table = _byte_table()
  bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
  step = table[bits & 0xFF] ^ bits >> np.uint32(8)
  moved = bits
  while count:
    if count & 1:
      moved = _apply(step, moved)
    step = _apply(step, step)
    count >>= 1
  return moved


def _apply(matrix: np.ndarray, registers: np.ndarray) -> np.ndarray:
  """Moves registers by a matrix whose columns are given as numbers."""
  result = np.zeros_like(registers)
  for bit in range(32):
    is_set = registers >> np.uint32(bit) & np.uint32(1)
    result ^= matrix[bit] * is_set
  return result
