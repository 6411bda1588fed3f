import jax
import numpy as np
import toy

from jepa_wm.training import optimizers
from jepa_wm.training import state as state_lib

OPTIMIZER = optimizers.AdamW(num_steps=10).transformation()


def test_starts_at_step_zero_with_a_target_of_its_own(rng_key):
  state = state_lib.create(toy.ToyModel(target='ema'), OPTIMIZER, rng_key)
  assert state.step.dtype == np.int32 and int(state.step) == 0
  online = state.variables['params']['encoder']['kernel']
  target = state.variables['target']['kernel']
  np.testing.assert_array_equal(online, target)
  # One buffer under two names could not be donated.
  pointers = [
    leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state.variables)
  ]
  assert len(set(pointers)) == len(pointers)


def test_shared_target_has_no_variables(rng_key):
  state = state_lib.create(toy.ToyModel(), OPTIMIZER, rng_key)
  assert 'target' not in state.variables


def test_step_keys_follow_from_the_step_alone(rng_key):
  state = state_lib.create(toy.ToyModel(), OPTIMIZER, rng_key)
  later = state.replace(step=state.step + 7)
  expected = jax.random.fold_in(state.rng_key, 7)
  assert later.step_key() == expected
  assert state.step_key() != later.step_key()


def test_description_is_that_of_a_fresh_state(rng_key):
  model = toy.ToyModel(target='ema')
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[3])
  state = state_lib.create(model, OPTIMIZER, rng_key, sharding=sharding)
  described = state_lib.describe(model, OPTIMIZER, sharding=sharding)
  assert jax.tree.structure(state) == jax.tree.structure(described)
  for array, shape in zip(jax.tree.leaves(state), jax.tree.leaves(described)):
    assert (array.shape, array.dtype) == (shape.shape, shape.dtype)
    assert array.sharding == shape.sharding
