import numpy as np
import pytest

from jepa_wm.data.readers import tfrecord


def bit_by_bit(data):
  register = 0xFFFFFFFF
  for byte in data:
    register ^= byte
    for _ in range(8):
      register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
  return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
  ('data', 'expected'),
  [
    # RFC 3720, appendix B.4, and the check value of CRC-32C.
    (bytes(32), 0x8A9136AA),
    (b'\xff' * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (b'123456789', 0xE3069283),
  ],
)
def test_published_checksums(data, expected):
  assert tfrecord.crc32c(data) == expected


@pytest.mark.parametrize('length', [0, 1, 1023, 16384, 16385, 50001])
def test_lanes_give_what_one_byte_after_another_gives(length):
  data = np.random.default_rng(length).bytes(length)
  assert tfrecord.crc32c(data) == bit_by_bit(data)
