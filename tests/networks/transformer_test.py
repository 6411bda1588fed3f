import jax
import numpy as np

from jepa_wm.networks import transformer


def test_fresh_modulated_block_is_the_identity(rng_key, draw):
  tokens = draw(2, 3, 8)
  condition = 10 * tokens[..., :5]
  module = transformer.ModulatedBlock(num_heads=2, head_dim=4, mlp_dim=16)
  (outputs, _), _ = jax.jit(module.init_with_output)(rng_key, tokens, condition)
  np.testing.assert_array_equal(outputs, tokens)
