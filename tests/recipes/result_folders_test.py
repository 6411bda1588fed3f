"""Results of one command are not those of another."""

import json

import pytest

from jepa_wm.recipes import result_folders

PLANNED = [{'planner': {}, 'protocol': {}}]
FOUND = {'plan': PLANNED, 'probe': [{'representation': 'latents'}], 'ask': {}}


@pytest.mark.parametrize('there', FOUND)
def test_a_folder_is_of_one_command(tmp_path, there):
  (tmp_path / 'results.json').write_text(json.dumps(FOUND[there]))
  own, other = result_folders.PLAN, result_folders.PROBE
  if there != 'plan':
    own, other = other, own
  with result_folders.hold(tmp_path, own):
    pass
  with pytest.raises(ValueError, match=f'holds results of {own}, which'):
    result_folders.hold(tmp_path, other).__enter__()
  assert [x.name for x in tmp_path.iterdir()] == ['results.json']


@pytest.mark.parametrize('text', ['', '[]', '[1]', '7'])
def test_what_is_no_result_is_nobodys(tmp_path, text):
  (tmp_path / 'results.json').write_text(text)
  with result_folders.hold(tmp_path, result_folders.PLAN):
    pass
