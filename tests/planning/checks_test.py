import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.planning import checks, keys
from jepa_wm.types import Root


def test_problem_keys_do_not_depend_on_how_many_there_are(rng_key):
  four = keys.problem_keys(rng_key, 4)
  two = keys.problem_keys(rng_key, 2)
  data = np.asarray(jax.random.key_data(four))
  np.testing.assert_array_equal(data[:2], jax.random.key_data(two))
  np.testing.assert_array_equal(
    data[3], jax.random.key_data(jax.random.fold_in(rng_key, 3))
  )
  assert len(np.unique(data, axis=0)) == 4
  assert keys.problem_keys(four, 4) is four


@pytest.mark.parametrize(
  ('rng_key', 'message'),
  [
    (np.zeros(2, np.uint32), 'must be made by jax.random.key .* got uint32'),
    (0, 'must be made by jax.random.key .* got'),
    (jax.random.split(jax.random.key(0), 3), r'each of the 2 .* shape \[3\]'),
  ],
)
def test_problem_keys_refuse(rng_key, message):
  with pytest.raises(ValueError, match=message):
    keys.problem_keys(rng_key, 2)


def test_count_problems_counts_the_problems():
  state = {'a': jnp.zeros((3, 2)), 'b': jnp.zeros(3)}
  assert checks.count_problems(Root(state, jnp.zeros((3, 1)))) == 3


@pytest.mark.parametrize(
  ('state', 'message'),
  [
    (
      {'a': jnp.zeros((3, 2)), 'b': jnp.zeros((2, 2))},
      r"root.state\['a'\] has shape \[3, 2\] and root.state\['b'\] has \[2, 2",
    ),
    ({'a': jnp.zeros(())}, r"root.state\['a'\] has \[\]"),
    ({}, 'root.state must hold at least one array'),
    (jnp.zeros((2, 2)), 'equally many problems, got 2 and 3'),
  ],
)
def test_count_problems_refuses(state, message):
  with pytest.raises(ValueError, match=message):
    checks.count_problems(Root(state, jnp.zeros((3, 2))))


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    *(
      (lambda n=n: planning.CEM(num_iterations=n), 'must be a whole number')
      for n in (2.5, 8.0, '8', None, True, np.nan)
    ),
    (lambda: planning.CEM(patience=1.5), 'patience must be a whole number'),
    (lambda: planning.ICEM(num_samples=5), 'num_kept must be below .* 5 of 5'),
    (
      lambda: planning.CEM(num_samples=1),
      'num_elites must not exceed .* 2 of 1',
    ),
    (lambda: planning.CEM(num_samples=10**20), 'num_samples must be at most'),
    *(
      (lambda x=x: planning.CEM(min_std=x), 'min_std must be a finite number')
      for x in (np.inf, np.nan, 'a', None)
    ),
    (lambda: planning.MPPI(temperature=np.inf), 'temperature must be a finite'),
    (lambda: planning.ICEM(decay=np.inf), 'decay must be a finite number'),
    (lambda: planning.ICEM(noise_beta=np.nan), 'noise_beta must be a finite'),
    (lambda: planning.Gradient(tolerance=np.nan), 'tolerance must be a finite'),
    (
      lambda: planning.GRASP(goal_weight=np.nan),
      'goal_weight must be a',
    ),
    (lambda: planning.GRASP(noise_std=np.inf), 'noise_std must be a finite'),
  ],
)
def test_settings_are_numbers(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize(
  ('guardrails', 'message'),
  [
    (planning.Guardrail(max), 'guardrails must be a sequence of Guardrail'),
    (None, 'guardrails must be a sequence .* got a NoneType'),
    (
      [planning.Guardrail(max, np.nan)],
      'bound of a Guardrail must be a number',
    ),
    ([planning.Guardrail(max, np.ones(2))], 'bound of a Guardrail must be one'),
    ([planning.Guardrail(max, 'a')], 'bound of a Guardrail must be one number'),
    ([planning.Guardrail(max, 0, -1.0)], 'penalty must not be negative'),
    ([planning.Guardrail(max, 0, np.inf)], 'penalty must be a finite number'),
  ],
)
def test_guardrails_are_numbers(guardrails, message):
  with pytest.raises(ValueError, match=message):
    planning.Limits(guardrails=guardrails).checked(2)


def test_a_bound_may_be_as_wide_as_it_likes():
  planning.Limits(guardrails=[planning.Guardrail(max, np.inf)]).checked(2)


def problem(**changed):
  root = Root(jnp.zeros((2, 3)), jnp.zeros((2, 3)))
  return planning.Problem(
    **{
      'root': root,
      'dynamics_fn': lambda params, key, action, state: state + action,
      'cost_fn': lambda params, state, action, goal: jnp.sum(state, -1),
      'horizon': 2,
      'action_dim': 3,
      **changed,
    }
  )


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'root': None}, 'root must be a Root .* got a NoneType'),
    ({'root': (1, 2)}, 'root must be a Root .* got a tuple'),
    ({'horizon': 2.0}, 'horizon must be a whole number, got 2.0'),
    ({'dynamics_fn': lambda *_: 1.0}, r'leading \[B, N\] .* has shape \[\]'),
    ({'proposal_fn': lambda *_: None}, r'proposal_fn must .* got shape \[\]'),
    ({'cost_fn': lambda p, s, a, g: s[..., 0] * 1j}, 'must return real costs'),
  ],
)
def test_a_problem_of_other_things_is_named(changed, message):
  cem = planning.CEM(num_samples=4, num_elites=2, num_iterations=1)
  with pytest.raises(ValueError, match=message):
    planning.search(cem, {}, jax.random.key(0), problem(**changed))
