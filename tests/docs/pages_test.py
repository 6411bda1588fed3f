"""What the pages say works as it stands there.

Blocks marked `python` run in order, a page in one namespace. Those marked `py`
need something that is not here: weights or files of others.
"""

import pathlib
import re

import numpy as np
import pytest

from jepa_wm.models import targets
from jepa_wm.networks import (
  action_encoders,
  encoders,
  predictors,
  projectors,
)
from jepa_wm.objectives import terms

DOCS = pathlib.Path(__file__).parents[2] / 'docs'


def run(page: str) -> dict:
  """Executes the Python of a page; what it has named at its end."""
  text = (DOCS / page).read_text()
  names = {}
  for block in re.findall(r'```python\n(.*?)```', text, re.DOTALL):
    exec(compile(block, page, 'exec'), names)
  assert names, page
  return names


@pytest.mark.parametrize(
  'page', ['worlds.md', 'models.md', 'heads.md', 'embedding.md', 'memory.md']
)
def test_the_examples_do_what_they_assert(page):
  run(page)


@pytest.mark.slow
def test_a_memory_outlives_the_episode():
  run('horizon.md')


@pytest.mark.slow
def test_agents_learn_in_a_model():
  pytest.importorskip('gymnasium')
  run('agents.md')


@pytest.mark.slow
def test_the_recipes_do_what_they_assert(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  run('recipes.md')
  (text,) = re.findall(
    r'afterwards\n(.*)', (DOCS / 'recipes.md').read_text(), re.S
  )
  there = {path.name for path in tmp_path.rglob('*')}
  # What these runs do not have: a decoder, patches and masks.
  absent = {'imagination.gif', 'imagination.png', 'pca.png', 'masks.png'}
  named = set(re.findall(r'`([\w]+\.\w{3,11})`', text)) - absent
  assert named <= there, named - there


def test_the_planner_keeps_the_limits_of_the_example(capsys):
  names = run('planners.md')
  assert 'guardrail passed by 0.00' in capsys.readouterr().out
  raw = names['model'].raw_actions(names['plan'].actions).reshape(-1, 2)
  assert np.abs(raw).max() < 1.01
  assert np.abs(np.diff(raw, axis=0)).max() < 0.51


@pytest.mark.parametrize(
  'registry',
  [
    action_encoders.ACTION_ENCODERS,
    encoders.ENCODERS,
    predictors.PREDICTORS,
    projectors.PROJECTORS,
    targets.TARGETS,
    terms.TERMS,
  ],
  ids=lambda registry: registry.kind,
)
def test_the_page_of_models_names_every_kind(registry):
  text = (DOCS / 'models.md').read_text()
  assert [name for name in registry.names() if f'`{name}`' not in text] == []
