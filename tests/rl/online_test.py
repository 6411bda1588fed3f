"""Learning while acting: who plays, what is appended, what a kill leaves."""

import dataclasses
import types

import jax
import numpy as np
import optax
import pytest
import small_model

import jepa_wm
from jepa_wm import planning, rl
from jepa_wm.data import replay as replay_lib
from jepa_wm.envs import stage as stage_lib
from jepa_wm.envs import worlds
from jepa_wm.training import run as run_lib

PLANNER = planning.RandomShooting(num_samples=4)


@pytest.fixture(scope='module')
def model():
  return small_model.make(jepa_wm.WorldModel, history=1)


@pytest.fixture(scope='module')
def stage():
  with worlds.get('two_room').stage(image_size=16) as opened:
    yield opened


@pytest.fixture(scope='module')
def actor():
  return rl.Actor(PLANNER, horizon=2, num_episodes=2, num_steps=20)


def play(actor, model, stage, first=0):
  return actor.play(model, stage, seed=3, first=first)


def test_episodes_are_whole_and_within_bounds(actor, model, stage):
  played = play(actor, model, stage)
  assert played.observations['pixels'].shape == (2, 21, 16, 16, 3)
  assert played.actions.shape == (2, 20, 2)
  assert np.abs(played.actions).max() <= 1.0
  assert played.reached.shape == (2, 20)
  # Where an action leads is what is seen next: standing still looks the same.
  moved = (np.diff(played.vectors, axis=1) != 0).any(axis=-1)
  seen = played.observations['pixels'].astype(int)
  changed = (np.diff(seen, axis=1) != 0).any(axis=(2, 3, 4))
  assert moved.any() and not np.any(changed[:, 1:] & ~moved)


def test_what_is_played_depends_on_seed_number_and_parameters(
  actor, model, stage
):
  played = play(actor, model, stage)
  np.testing.assert_array_equal(
    played.actions, play(actor, model, stage).actions
  )
  others = play(actor, model, stage, first=2)
  assert np.any(played.actions != others.actions)
  changed = dataclasses.replace(
    model, params=jax.tree.map(lambda x: 1.5 * x, model.params)
  )
  assert np.any(played.actions != play(actor, changed, stage).actions)
  broken = dataclasses.replace(
    model, params=jax.tree.map(lambda x: x * np.nan, model.params)
  )
  with pytest.raises(ValueError, match=r'block 0 with NaN .*has diverged'):
    play(actor, broken, stage)


def test_models_that_differ_in_parameters_share_a_program(model, stage):
  actor = rl.Actor(PLANNER, horizon=2, num_episodes=2, num_steps=5)
  play(actor, model, stage)
  changed = jax.tree.map(lambda x: 2.0 * x, model.params)
  play(actor, dataclasses.replace(model, params=changed), stage)
  assert actor.num_programs == 1


def test_what_cannot_be_played_is_refused(actor, model, stage):
  odd = rl.Actor(PLANNER, horizon=2, num_episodes=2, num_steps=7)
  with pytest.raises(ValueError, match='whole blocks of 5 steps, got 7'):
    play(odd, model, stage)

  class Feels(type(model)):
    observation_spec = property(lambda self: dict(pixels=0, proprio=0))

  with pytest.raises(ValueError, match=r"sees \['pixels', 'proprio'\]"):
    play(actor, Feels(**vars(model)), stage)


@pytest.fixture
def make(model, stage, actor):
  """Runs of four steps that play after every second one."""

  def make(folder, **changes):
    replay = replay_lib.Replay(folder / 'replay')
    act = rl.Act(
      replay,
      stage,
      actor,
      lambda variables: dataclasses.replace(model, params=variables),
      every=2,
      seed=0,
      **changes,
    )
    run = run_lib.Run(
      model.model,
      optax.sgd(1e-3),
      rl.Batches(replay, num_frames=2, stride=5, batch_size=8, seed=0),
      num_steps=6,
      action_statistics=model.units,
      hooks=[act],
    )
    return run, act, replay

  return make


def _last(run, replay):
  table = replay.table()
  return (
    [np.asarray(x) for x in jax.tree.leaves(run.state.variables)],
    table.columns['action'][np.arange(table.num_frames)],
  )


@pytest.mark.slow
def test_a_run_plays_and_a_killed_one_plays_the_same_again(make, tmp_path):
  whole, act, replay = make(tmp_path / 'whole')
  for _ in whole.steps():
    pass
  # Two of the random policy, then two after steps 2 and 4.
  assert [x.step for x in act.rounds] == [0, 2, 4]
  assert act.step == 6 and act.num_learnt == 6
  assert replay.end == 6 and act.rounds[-1].num_frames == 6 * 21
  expected = _last(whole, replay)

  first, _, _ = make(tmp_path / 'killed')
  for report in first.steps():
    if report.step == 3:
      first.save(tmp_path / 'checkpoints')
    if report.step == 5:
      break  # Killed: what was played after step 4 is on the disk.
  rest, _, replay = make(tmp_path / 'killed')
  assert replay.end == 6
  assert rest.resume(tmp_path / 'checkpoints') and replay.end == 4
  for _ in rest.steps():
    pass
  for one, other in zip(expected, _last(rest, replay)):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_run_killed_before_its_first_checkpoint_begins_anew(make, tmp_path):
  first, _, _ = make(tmp_path)
  next(first.steps())
  again, _, replay = make(tmp_path)
  next(again.steps())
  assert replay.end == 2


def test_episodes_that_came_to_their_target_may_be_dropped(
  make, stage, tmp_path, monkeypatch
):
  run, act, replay = make(tmp_path, only_failed=True)
  played = stage.play

  def arrive(rows, actions):
    trail = played(rows, actions)
    return trail._replace(reached=np.asarray(rows)[:, None] == 0)

  monkeypatch.setattr(stage, 'play', arrive)
  for _ in run.steps():
    pass
  assert [x.num_kept for x in act.rounds] == [2, 1, 1]
  assert [x.reached for x in act.rounds[1:]] == [0.5, 0.5]
  assert replay.end == 4


class Told:
  """Learns how many frames there were, and tells the model."""

  def learn(self, model, table):
    return table.num_frames

  def valued(self, model, learnt):
    return {'valued': learnt}


def test_values_are_learnt_once_a_step_and_before_its_own_round(
  stage, tmp_path
):
  played = []

  class Player:
    num_episodes, num_steps = 1, 5

    def play(self, model, stage, *, seed, first):
      played.append((model, first))
      seen = {'pixels': np.zeros((1, 6, 16, 16, 3), np.uint8)}
      actions, none = np.zeros((1, 5, 2)), np.zeros((1, 5), bool)
      return stage_lib.Episodes(actions, none, actions, None, seen, None)

  run = types.SimpleNamespace(
    step=0, num_steps=4, check=lambda: None, state=None, learner=None
  )
  run.learner = types.SimpleNamespace(for_inference=lambda variables: {})
  run.state = types.SimpleNamespace(variables={})
  act = rl.Act(
    replay_lib.Replay(tmp_path / 'replay'),
    stage,
    Player(),
    lambda variables: variables,
    every=2,
    seed=0,
    values=Told(),
  )
  act.at_start(run)
  assert act.model({}) == {} and act.num_learnt == 0
  for run.step in range(1, 5):
    act.after_step(run, run_lib.Report(run.step, {}))
  # The round after step 2 saw the first episode; nothing follows step 4.
  assert played == [({'valued': 6}, 2)]
  assert act.model({}) == {'valued': 12} and act.num_learnt == 2
