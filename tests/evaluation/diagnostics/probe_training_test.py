import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.evaluation.diagnostics import (
  probe_scores,
  probe_training,
  probing,
)
from jepa_wm.networks import probes

NUM = {'train': 256, 'validation': 64, 'held_out': 128}


def _splits(make, seed=0):
  """Examples of every split; `make` gives tokens and targets of `n`."""
  rng = np.random.default_rng(seed)
  drawn = {name: make(rng, num) for name, num in NUM.items()}
  return {
    name: probe_training.Examples(
      jnp.asarray(tokens, jnp.float32), jnp.asarray(targets)
    )
    for name, (tokens, targets) in drawn.items()
  }


def _affine(rng, num):
  """States in odd units that are an affine map of the tokens' mean."""
  tokens = 3 + 2 * rng.normal(size=(num, 2, 6))
  weights = np.linspace(-1, 1, 12).reshape(6, 2)
  states = tokens.mean(1) @ weights * np.array([10, 0.1]) + np.array([50, -3])
  return tokens, states.astype(np.float32)


def _marked(rng, num):
  """Which of four marks one token bears, among three without one."""
  tokens = rng.normal(size=(num, 4, 6))
  tokens[..., :5] *= 0.3
  labels = rng.integers(0, 4, num)
  place = rng.integers(0, 4, num)
  tokens[..., 5] = 0
  tokens[np.arange(num), place, labels] += 2
  tokens[np.arange(num), place, 5] = 4
  return tokens, labels.astype(np.int32)


@pytest.mark.slow
def test_a_linear_probe_reaches_the_closed_form():
  splits = _splits(_affine)
  outcome = probe_training.train(
    probes.PooledProbe(features=2),
    splits,
    target_names=('far', 'near'),
    training=probe_training.Training(
      learning_rates=(3e-2, 1e-5), weight_decays=(0.0,), num_steps=300
    ),
  )
  assert outcome.chosen == {
    'learning_rate': pytest.approx(3e-2), 'weight_decay': 0.0,
  }  # fmt: skip
  pooled = {k: (v.tokens.mean(1), v.targets) for k, v in splits.items()}
  ridge = probing.fit(*pooled['train'], ridge=1e-8)
  best = probing.score(ridge, *pooled['held_out'])
  assert best['probe_r2'] > 0.9999
  assert list(outcome.scores) == ['far', 'near']
  for name, scale in (('far', 10.0), ('near', 0.1)):
    scores = outcome.scores[name]
    assert scores['r2'] > 0.999 and scores['r'] > 0.999
    # In the target's units: its variance is about 1.5 times the scale squared.
    assert scores['mse'] < 2e-3 * scale**2


def test_states_are_scored_as_numpy_does():
  """On noise nothing is learnt; the numbers are still those of the formulas."""
  rng = np.random.default_rng(0)
  predicted, truth = rng.normal(size=(2, 50, 1))
  scores = probe_scores.state_scores(predicted, truth, np.array([3.0]), 'a')
  expected = {
    'mse': 9 * np.mean((predicted - truth) ** 2),
    'r': np.corrcoef(predicted[:, 0], truth[:, 0])[0, 1],
    'r2': 1 - np.mean((predicted - truth) ** 2) / truth.var(),
  }
  assert scores['a'] == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize('make', [_affine, _marked])
def test_predictions_of_clips_are_averaged(make):
  splits = _splits(make)
  held_out = splits['held_out']
  splits['held_out'] = probe_training.Examples(
    held_out.tokens, held_out.targets[::2], num_clips=2
  )
  are_states = make is _affine
  probe = probes.PooledProbe(features=2 if are_states else 4)
  outcome = probe_training.train(
    probe,
    splits,
    target_names=('far', 'near') if are_states else (),
    training=probe_training.Training(
      learning_rates=(3e-2,), weight_decays=(0.0,), num_steps=20
    ),
  )
  tokens = np.asarray(splits['train'].tokens)
  mean, deviation = tokens.mean((0, 1)), tokens.std((0, 1))
  seen = (np.asarray(held_out.tokens) - mean) / deviation
  outputs = np.asarray(probe.apply(outcome.params, seen), np.float64)
  truth = np.asarray(splits['held_out'].targets)
  if are_states:
    states = np.asarray(splits['train'].targets)
    read = outputs.reshape(64, 2, 2).mean(1) * states.std(0) + states.mean(0)
    for name, error in zip(('far', 'near'), ((read - truth) ** 2).mean(0)):
      assert outcome.scores[name]['mse'] == pytest.approx(error, rel=1e-3)
  else:
    odds = np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)
    right = odds.reshape(64, 2, 4).mean(1).argmax(-1) == truth
    assert outcome.scores['accuracy'] == pytest.approx(right.mean())
    assert outcome.scores['num_examples'] == 64


def test_attention_reads_the_token_that_bears_the_mark():
  training = probe_training.Training(
    learning_rates=(1e-2,), weight_decays=(0.01,), num_steps=200
  )
  outcome = probe_training.train(
    probes.AttentiveProbe(features=4, num_heads=2, width=16),
    _splits(_marked),
    training=training,
  )
  assert outcome.scores['accuracy'] > 0.95
  low, high = outcome.scores['interval_95']
  assert low < outcome.scores['accuracy'] < high or high > 0.99
  assert outcome.scores['num_examples'] == 128


def test_the_choice_is_made_on_validation_alone():
  """Held-out labels are shuffled: nothing may follow them but their score."""
  splits = _splits(_marked)
  shuffled = {
    **splits,
    'held_out': probe_training.Examples(
      splits['held_out'].tokens, (splits['held_out'].targets + 1) % 4
    ),
  }
  training = probe_training.Training(
    learning_rates=(1e-4, 1e-2), weight_decays=(0.0, 0.1), num_steps=100
  )
  first, second = (
    probe_training.train(
      probes.PooledProbe(features=4, hidden_dim=16), given, training=training
    )
    for given in (splits, shuffled)
  )
  assert first.chosen == second.chosen
  assert first.validation == second.validation and len(first.validation) == 4
  best = np.argmax(first.validation)
  assert training.grid[best] == tuple(first.chosen.values())
  jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
  assert second.scores['accuracy'] < 0.3 < 0.7 < first.scores['accuracy']


def test_a_probe_of_the_grid_is_what_it_is_alone():
  splits, seen = _splits(_affine), []
  alone, together = (
    probe_training.train(
      probes.PooledProbe(features=2),
      splits,
      target_names='ab',
      training=probe_training.Training(
        learning_rates=rates, weight_decays=(0.1,), num_steps=40
      ),
      progress_fn=seen.append,
    )
    for rates in ((1e-2,), (1e-4, 1e-2))
  )
  assert together.chosen == alone.chosen
  np.testing.assert_allclose(
    together.validation[1], alone.validation[0], rtol=1e-4
  )
  assert seen[-1] == 1.0 and len(seen) == 40


def test_a_constant_feature_and_a_constant_target_are_no_nan():
  def constant(rng, num):
    tokens, states = _affine(rng, num)
    tokens[..., 0], states[:, 1] = 1e4, 7.0
    return tokens, states

  outcome = probe_training.train(
    probes.PooledProbe(features=2),
    _splits(constant),
    target_names=('moves', 'rests'),
    training=probe_training.Training(num_steps=20),
  )
  assert np.isfinite([list(s.values()) for s in outcome.scores.values()]).all()
  assert outcome.scores['rests']['r2'] == 0.0


def test_doors():
  tokens = jnp.zeros((4, 2, 3))
  with pytest.raises(
    ValueError, match=r'tokens must be \[N \* num_clips, P, D\]'
  ):
    probe_training.Examples(tokens[0], jnp.zeros((2, 1)))
  with pytest.raises(ValueError, match='targets must be finite'):
    probe_training.Examples(tokens, jnp.full((4, 1), jnp.nan))
  with pytest.raises(
    ValueError, match='learning_rates must be numbers, positive'
  ):
    probe_training.Training(learning_rates=(float('nan'),))
  with pytest.raises(ValueError, match='num_steps must be at least 1'):
    probe_training.Training(num_steps=0)
  labels = probe_training.Examples(tokens, jnp.array([0, 1, 2, 3]))
  states = probe_training.Examples(tokens, jnp.zeros((4, 2)))
  linear = probes.PooledProbe(features=3)
  splits = dict.fromkeys(probe_training.SPLITS, labels)
  with pytest.raises(ValueError, match=r'splits lack .*held_out'):
    probe_training.train(linear, {'train': labels, 'validation': labels})
  with pytest.raises(ValueError, match=r'go from 0 to 3; a probe of 3 outputs'):
    probe_training.train(linear, splits)
  with pytest.raises(ValueError, match="of 'held_out' differ"):
    probe_training.train(
      probes.PooledProbe(features=4), {**splits, 'held_out': states}
    )
  with pytest.raises(ValueError, match='2 targets need as many outputs'):
    probe_training.train(
      linear, dict.fromkeys(splits, states), target_names='ab'
    )
