"""What is remembered, of models that keep a cue and of such as do not."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adding import Adding

from jepa_wm import units
from jepa_wm.evaluation.diagnostics import diagnostic, memory


@dataclasses.dataclass(frozen=True)
class Keeping(Adding):
  """Sees a place and, in the first frame, a cue; carries what it has seen."""

  keeps: bool = True
  latent_dim: int = 2

  @property
  def observation_spec(self):
    return {'proprio': jax.ShapeDtypeStruct((2,), jnp.float32)}

  def encode(self, variables, observation):
    return observation['proprio']

  def start(self, variables, latents, actions, *, grows=False):
    newest = latents[..., -1, :]
    return {'newest': newest, 'sum': newest, 'age': jnp.zeros(len(newest), int)}

  def advance(self, variables, state, action):
    return {**state, 'newest': state['newest'] + action}

  def absorb(self, variables, state, action, latent):
    total = state['sum'] + latent if self.keeps else latent
    return {'newest': latent, 'sum': total, 'age': state['age'] + 1}

  def read(self, state):
    return state['newest']


def _batch(seed, number=48, length=9):
  rng = np.random.default_rng(seed)
  cue = rng.choice([-1.0, 1.0], number)
  place = np.repeat(rng.normal(size=(number, 1)), length, axis=1) * 0.1
  shown = np.zeros((number, length))
  shown[:, 0] = cue
  seen = np.stack([place, shown], axis=-1).astype(np.float32)
  clock = np.broadcast_to(np.arange(length), shown.shape)
  kept = [np.broadcast_to(x[:, None], shown.shape) for x in (cue, cue * 0 + 3)]
  drawn = np.broadcast_to(rng.normal(size=(number, 1)), shown.shape)
  return {
    'observation': {'proprio': seen},
    'action': rng.normal(size=(number, length - 1, 2)).astype(np.float32),
    'state': np.stack([*kept, clock, drawn], axis=-1),
  }


def _ask(model, batches_fn, world=None):
  config = types.SimpleNamespace(name='keeping')
  examined = types.SimpleNamespace(
    model=types.SimpleNamespace(acting=model, config=config),
    params={},
    units=units.ActionStatistics(np.zeros(2), np.ones(2)),
  )
  episodes = types.SimpleNamespace(windows_fn=batches_fn, world=world)
  question = diagnostic.Question(examined, episodes, jax.random.key(0))
  return memory.Memory()(question)


def _split(split):
  first = {'train': 0, 'held_out': 10}[split]
  return [_batch(first), _batch(first + 1)]


def test_a_cue_is_read_off_the_state_that_kept_it():
  world = types.SimpleNamespace(state_names=('cue', 'doors', 'clock', 'seed'))
  found = _ask(Keeping(), _split, world)
  # What is one value, many values or changes is nothing to remember.
  assert set(found.scalars) == {
    'cue_latent', 'cue_state', 'cue_prediction', 'cue_chance'
  }  # fmt: skip
  assert found.scalars['cue_state'] == 1.0
  assert 0.3 < found.scalars['cue_latent'] < 0.7
  assert 0.3 < found.scalars['cue_prediction'] < 0.7
  assert 0.35 < found.scalars['cue_chance'] < 0.65
  assert found.verdict == 'remembered'
  (row,) = [x for x in found.table.rows if x[1] == 'state']
  assert row[0] == 'cue' and 0.9 < row[3] < row[4] <= 1.0
  assert _ask(Keeping(keeps=False), _split, world).verdict == 'forgotten'
  short = lambda split: [_batch(0 if split == 'train' else 1, length=2)]
  assert _ask(Keeping(), short).verdict == 'remembered'


def test_there_may_be_nothing_to_remember_or_nobody_who_could():
  none = lambda split: [
    {k: x for k, x in _batch(0).items() if k != 'state'} | {}
  ]
  assert 'nothing to remember' in _ask(Keeping(), none).sentence
  with pytest.raises(ValueError, match='two frames or more'):
    _ask(Keeping(), lambda split: [_batch(0, length=1)])
  with pytest.raises(ValueError, match='keeping has none'):
    _ask(None, _split)


def test_more_numbers_than_rows_are_no_harm():
  rng = np.random.default_rng(0)
  classes = rng.integers(0, 3, 120)
  rows = rng.normal(size=(120, 2000))
  rows[:, 5:8] += 40.0 * np.eye(3)[classes]
  guess = memory.classify(rows[:80], classes[:80], rows[80:])
  assert np.mean(guess == classes[80:]) > 0.9
  noise = memory.classify(rows[:80, 10:], classes[:80], rows[80:, 10:])
  assert np.mean(noise == classes[80:]) < 0.6
  still = memory.classify(np.ones((4, 2)), np.array([0, 1, 1, 1]), rows[:2, :2])
  np.testing.assert_array_equal(still, [1, 1])
