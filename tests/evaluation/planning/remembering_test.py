"""Closed loops that carry a model's state, in a world that is lit once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model

import jepa_wm
from jepa_wm import planning
from jepa_wm.evaluation.planning import (
  pairs,
  planner_settings,
  planning_benchmark,
  protocol,
  remembering,
)
from jepa_wm.types import Root

TWICE = protocol.get(
  'long', num_pairs=4, horizon=2, receding_horizon=2, budget=40
)
PLANNER = planning.CEM(num_samples=48, num_elites=8, num_iterations=3)


class Dark:
  """A stage that shows where things are placed, and nothing after that."""

  def __init__(self, stage):
    self._stage, self._is_lit = stage, False
    self.looks = []

  def __getattr__(self, name):
    return getattr(self._stage, name)

  def place(self, rows, states, **how):
    self._is_lit = True
    self._stage.place(rows, states, **how)

  def observe(self, rows):
    self.looks.append(len(rows))
    seen = self._stage.observe(rows)
    if not self._is_lit:
      seen = {name: np.zeros_like(x) for name, x in seen.items()}
    self._is_lit = False
    return seen


def dark_model(perfect_model):
  class Reckoning(type(perfect_model)):
    """Knows where it is from its first frame and from what it has done."""

    def encode(self, params, observation):
      pixels = observation['pixels']
      is_dark = ~jnp.any(pixels, axis=(-3, -2, -1))
      found = super().encode(params, observation)
      return jnp.where(is_dark[..., None], 32.0, found)

    @property
    def following(self):
      def start(params, seen):
        return self.start(params, {'pixels': seen['pixels'][:, None]})

      def absorb(params, state, action, seen):
        lift = lambda tree: jax.tree.map(lambda x: x[:, None], tree)
        state = self.dynamics(params, None, lift(action), lift(state))
        return jax.tree.map(lambda x: x[:, 0], state)

      return planning.Following(
        start,
        absorb,
        lambda params, state, goal: Root(state, self.encode(params, goal)),
      )

  return Reckoning()


def test_a_loop_that_carries_the_state_knows_what_was_shown_once(
  perfect_model, run_short_again, two_room_stage
):
  model = dark_model(perfect_model)

  def play(memory, stage):
    return run_short_again(
      model=model,
      protocol=TWICE,
      pairs=pairs.load_pairs(TWICE),
      settings=planner_settings.PlannerSettings(
        PLANNER, cost='all', memory=memory
      ),
      batch_size=3,
      stage=stage,
      baseline=planning_benchmark.Baseline(0.0, 1.0),
    )

  lit, stage = play('frames', two_room_stage), Dark(two_room_stage)
  known = play('state', stage)
  np.testing.assert_allclose(known.vectors, lit.vectors, atol=0.1)
  assert known.record['planner']['memory'] == 'state'
  # Goals, then every block once; those who are there are left out.
  assert stage.looks[:3] == [4, 4, 4] and len(stage.looks) == 1 + 8
  assert stage.looks == sorted(stage.looks, reverse=True)
  stage = Dark(two_room_stage)
  blind = play('frames', stage)
  assert np.abs(blind.vectors - lit.vectors).max() > 2.0
  assert 'memory' not in blind.record['planner']
  # Seen before every plan alone.
  assert len(stage.looks) == 1 + 4


def test_rows_keep_their_own():
  class Planner:
    batch_size = 2

    def seeing(self, followed, seen):
      del seen

      def absorb(followed, seen):
        assert len(seen) <= 2
        state = seen if followed.state is None else followed.state + seen
        return planning.Followed(state, followed.actions[:, :0])

      return absorb

  remembers = remembering.Followed(Planner())
  memory = planning.Followed(None, np.zeros((4, 0, 1), np.float32))
  memory = remembers.see(memory, np.array([0, 2, 3]), np.array([1.0, 2.0, 3.0]))
  np.testing.assert_array_equal(memory.state, [1, 0, 2, 3])
  memory = remembers.play(memory, np.array([0, 3]), np.ones((2, 1)))
  np.testing.assert_array_equal(memory.actions[..., 0], [[1], [0], [0], [1]])
  memory = remembers.see(
    remembers.settle(memory), np.array([0, 3]), np.array([5.0, 6.0])
  )
  np.testing.assert_array_equal(memory.state, [6, 0, 2, 9])
  assert memory.actions.shape == (4, 0, 1)


def test_a_memory_that_says_nothing_is_refused():
  with pytest.raises(ValueError, match='memory must be one of frames, state'):
    planner_settings.PlannerSettings(memory='latent')
  with pytest.raises(ValueError, match='history=2 would do nothing beside mem'):
    planner_settings.PlannerSettings(memory='state', history=2)
  settings = planner_settings.PlannerSettings(memory='state')
  remembers = small_model.make(jepa_wm.WorldModel)
  remembering.check(remembers, settings)
  with pytest.raises(ValueError, match='state is its newest frame alone'):
    remembering.check(small_model.make(jepa_wm.WorldModel, history=1), settings)
