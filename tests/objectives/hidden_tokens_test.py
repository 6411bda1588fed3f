"""What is reported of predicted tokens, beside their distance."""

import re

import jax
import numpy as np

from jepa_wm import sharding
from jepa_wm.objectives import hidden_tokens, terms


def test_deviations_are_those_of_all_tokens_and_none_of_them_travels(rng_key):
  rng = np.random.default_rng(0)
  shapes = (8, 3, 4), (8, 5, 4)
  wanted = [rng.normal(1.0, 2.0, x).astype(np.float32) for x in shapes]
  predicted = [rng.normal(0.0, 0.5, x).astype(np.float32) for x in shapes]
  mesh = sharding.make_mesh(8)

  def report(predicted, wanted):
    kinds = [
      hidden_tokens.Hidden(*pair, None, None, None, None, None)
      for pair in zip(predicted, wanted)
    ]
    outcome = terms.Outcome(wanted[0], [], extra=kinds)
    return hidden_tokens.HiddenTokens().price(outcome, rng_key).metrics

  split = sharding.shard_batch((predicted, wanted), mesh)
  program = jax.jit(report).lower(*split).compile()
  assert not re.search('all-(gather|to-all)', program.as_text())
  found = program(*split)
  for name, tokens in (('target', wanted), ('predicted', predicted)):
    together = np.concatenate([x.reshape(-1, 4) for x in tokens])
    np.testing.assert_allclose(
      found[f'{name}_std'], together.std(axis=0).mean(), rtol=1e-5
    )
