import numpy as np
import pytest

from experiments import convert
from jepa_wm.data import cache as cache_lib
from jepa_wm.data import episodes as episodes_lib


def make_episode(index):
  rng = np.random.default_rng(index)
  return episodes_lib.Episode(
    columns={
      'observation/pixels': rng.integers(0, 256, (6, 8, 12, 3), np.uint8),
      'observation/proprio': rng.normal(size=(6, 3)).astype(np.float32),
      'action': rng.normal(size=(5, 2)).astype(np.float32),
    },
    is_terminal=False,
  )


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  path = tmp_path_factory.mktemp('convert') / 'source'
  episodes_lib.write_episodes(
    path, map(make_episode, range(9)), provenance={}, held_out_fraction=0.0
  )
  return path


def call(capsys, **values):
  names = {name: convert.FLAGS[name] for name in convert.FLAGS}
  before = {name: flag.value for name, flag in names.items()}
  try:
    if not convert.FLAGS.is_parsed():
      convert.FLAGS.mark_as_parsed()
    for name, value in values.items():
      names[name].value = value
    convert.main(['convert'])
  finally:
    for name, value in before.items():
      names[name].value = value
  return capsys.readouterr().out


def test_the_command_line(source, tmp_path, capsys):
  out = str(tmp_path / 'out')
  printed = call(capsys, source=str(source), out=out, image_size=6, proprio=[])
  assert (
    printed == f'{out}: 8 train, 1 held_out, verified; the cache is flat.\n'
  )
  cache = cache_lib.open_cache(out)
  assert cache.columns['observation/pixels'].shape[1:] == (6, 6, 3)
  assert 'observation/proprio' not in cache.columns


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'source': 'nowhere'}, 'nowhere: no such file or folder'),
    ({'action': ['qpos']}, "no column 'qpos'"),
    ({'out': '/proc/nothing/out'}, '/proc/nothing/out cannot be written'),
  ],
)
def test_the_command_line_ends_in_a_sentence(
  source, tmp_path, capsys, values, message
):
  values = {'source': str(source), 'out': str(tmp_path / 'out')} | values
  with pytest.raises(SystemExit, match=message):
    call(capsys, **values)
