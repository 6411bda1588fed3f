"""Collects episodes, trains for twenty steps, and plans four pairs.

  python examples/train_a_small_model.py

All that the commands do, from Python. Twenty steps make no good model; 3,000 of
batch 128 on 2,000 episodes do (`experiments/configs/lewm.py`).
"""

from jepa_wm import recipes

MODEL = {
  'name': 'lewm',
  'latent_dim': 8,
  'encoder': {
    'name': 'conv',
    'image_size': 32,
    'channels': (16, 8),
    'strides': (8, 1),
    'blocks': (0, 0),
  },
  'predictor': {'name': 'causal', 'history': 1, 'width': 32, 'depth': 1},
}
SEARCH = {'num_samples': 32, 'num_elites': 4, 'num_iterations': 3}


def main(folder: str = 'outputs/small'):
  """Leaves `data/`, `run/` and `plan/` in the folder; returns the record."""
  data, run, out = (f'{folder}/{name}' for name in ('data', 'run', 'plan'))
  collecting = recipes.Collecting(num_episodes=32, image_size=32)
  recipes.collect(collecting, data, overwrite=True)
  windows = {'path': data, 'batch_size': 16, 'num_eval_windows': 32}
  recipes.train({'model': MODEL, 'data': windows, 'num_steps': 20}, run)
  planning = recipes.Planning(
    checkpoint=run, num_pairs=4, options=SEARCH, out=out
  )
  (planned,) = recipes.plan(planning).finished
  print(f'{planned.record["num_successes"]} of 4 pairs')
  return planned.record


if __name__ == '__main__':
  main()
