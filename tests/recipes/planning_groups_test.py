"""A checkpoint of two agents, in worlds of other numbers of them."""

import jax
import numpy as np
import pytest

from experiments.configs import multi_agent
from jepa_wm import exports, models, units
from jepa_wm.data import config as data_config
from jepa_wm.recipes import planning_groups, sources


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  config = multi_agent.get_config('two_room_tiny').model.to_dict()
  model = models.from_config(config)
  zeros = lambda leaf: np.zeros(leaf.shape, leaf.dtype)
  params = jax.tree.map(zeros, exports.inference_shapes(model))
  known = units.ActionStatistics(np.zeros(4), np.ones(4))
  path = tmp_path_factory.mktemp('pair')
  exports.WorldModel(model, params, known).save(path)
  return str(path)


def test_a_checkpoint_is_that_of_the_agents_of_its_world(checkpoint):
  load = planning_groups.load
  plain = load(checkpoint, None)
  assert plain.model == load(checkpoint, 'two_room_agents').model
  group = load(checkpoint, 'two_room_agents_4')
  assert group.model.num_agents == 4 and group.action_dim == 40


def test_data_of_another_number_of_agents_is_refused():
  config = multi_agent.get_config('two_room_tiny').model.to_dict()
  model = models.from_config({**config, 'action_dim': 8})
  data = data_config.DataConfig(
    source='simulation', environment='two_room_agents_4'
  )
  with pytest.raises(ValueError, match='num_agents is 2 and the data has 4'):
    sources.open_source(data, model)
