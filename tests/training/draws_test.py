import jax
import numpy as np
import pytest
import toy

from jepa_wm import models
from jepa_wm.training import draws

MODEL = models.from_config(
  {
    'name': 'vjepa',
    'encoder': {
      'image_size': 16,
      'patch_size': 2,
      'num_frames': 2,
      'width': 12,
      'depth': 1,
      'num_heads': 1,
      'mlp_dim': 12,
    },
    'predictor': {'width': 12, 'depth': 1, 'num_heads': 1, 'mlp_dim': 12},
    'masks': {'num_buckets': 2},
  }
)


def stream(seed=0):
  return draws.DrawnBatches(toy.ToyBatches(), MODEL, seed=seed)


def equal(a, b):
  return all(
    x.shape == y.shape and (x == y).all()
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b))
  )


def test_masks_are_a_function_of_the_seed_and_the_step():
  one, same, other = stream(), stream(), stream(seed=1)
  batches = [next(one) for _ in range(4)]
  assert all(equal(batch, next(same)) for batch in batches)
  assert not equal(batches[0]['masks'], batches[1]['masks'])
  assert not equal(batches[0]['masks'], next(other)['masks'])
  expected = MODEL.draw(np.random.default_rng([0, 2]), 8)['masks']
  assert equal(batches[2]['masks'], expected)


def test_goes_on_where_it_was():
  batches = stream()
  next(batches)
  state = batches.get_state()
  expected = [next(batches) for _ in range(3)]
  resumed = stream()
  resumed.set_state(state)
  assert all(equal(batch, next(resumed)) for batch in expected)


def test_each_process_takes_its_rows():
  whole = next(stream())
  parts = []
  for rows in np.split(np.arange(8), 2):
    few = draws.OwnRows(toy.ToyBatches(), rows)
    own = draws.DrawnBatches(few, MODEL, seed=0, rows=rows, batch_size=8)
    parts.append(next(own))
  assert equal(jax.tree.map(lambda *x: np.concatenate(x), *parts), whole)


def test_what_is_in_the_batch_stays():
  batch = next(stream())
  assert equal(
    batch['observation']['pixels'],
    next(toy.ToyBatches())['observation']['pixels'],
  )
  assert len(batch['masks']) == 2


@pytest.mark.parametrize('kind', [0, 1])
def test_context_and_target_share_nothing(kind):
  drawn = next(stream())['masks'][kind]
  for context, target in zip(drawn.context_ids, drawn.target_ids):
    assert not set(context) & set(target)
