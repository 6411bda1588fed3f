"""What holds more and more is found out by the soak, and nothing else."""

import mmap
import os
import threading

import numpy as np
import pytest

from benchmarks import soak


def _thread(kept):
  stop = threading.Event()
  threading.Thread(target=stop.wait, daemon=True).start()
  kept.append(stop)


def _map(kept):
  # Of other rights than its neighbour, which would be one with it.
  rights = mmap.PROT_READ | (len(kept) % 2) * mmap.PROT_WRITE
  kept.append(mmap.mmap(-1, mmap.PAGESIZE, prot=rights))


LEAKS = {
  # 300 bytes each; a small leak takes many times to show.
  'resident_mib': (100_000, lambda kept: kept.append(bytes(300))),
  'files': (100, lambda kept: kept.append(os.open(os.devnull, os.O_RDONLY))),
  'threads': (100, _thread),
  'maps': (1000, _map),
}


@pytest.mark.stress
@pytest.mark.parametrize('what', LEAKS)
def test_a_small_leak_is_found(what, capsys):
  count, leak = LEAKS[what]
  kept = []
  try:
    assert not soak.soak('leaky', count, lambda number: leak(kept))
  finally:
    for one in kept:
      if what == 'files':
        os.close(one)
      elif what == 'threads':
        one.set()
  assert f'"{what}"' in capsys.readouterr().out.split('"grown"')[1]


@pytest.mark.stress
def test_what_comes_and_goes_is_none():
  rng = np.random.default_rng(0)
  assert soak.soak('steady', 2000, lambda number: rng.normal(size=10_000).sum())
