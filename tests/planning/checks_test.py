import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
