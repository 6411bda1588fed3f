"""Collects episodes, trains for twenty steps, and plans four pairs.

  python examples/train_a_small_model.py

All that the commands do, from Python. Twenty steps make no good model; 3,000 of
batch 128 on 2,000 episodes do (`experiments/configs/lewm.py`).
"""

from jepa_wm import WorldModel, fields, planning, recipes
from jepa_wm.evaluation.planning import (
  pairs,
  planner_settings,
  planning_benchmark,
  protocol,
)
from jepa_wm.models import lewm
from jepa_wm.networks import causal, conv


def main(folder: str = 'outputs/small'):
  """Leaves `data/` and `run/` in the folder; the result of the benchmark."""
  recipes.collect(
    recipes.Collecting(num_episodes=32, image_size=32),
    f'{folder}/data',
    overwrite=True,
  )
  model = lewm.LeWM(
    latent_dim=8,
    encoder=conv.ConvConfig(
      image_size=32, channels=(16, 8), strides=(8, 1), blocks=(0, 0)
    ),
    predictor=causal.CausalConfig(history=1, width=32, depth=1),
  )
  config = {
    'model': fields.to_dict(model),
    'data': {
      'path': f'{folder}/data',
      'batch_size': 16,
      'num_eval_windows': 32,
    },
    'num_steps': 20,
  }
  recipes.train(config, f'{folder}/run')
  short = protocol.get('short', num_pairs=4)
  settings = planner_settings.PlannerSettings(
    planning.ICEM(num_samples=32, num_elites=4, num_iterations=3, num_kept=2)
  )
  result = planning_benchmark.run(
    WorldModel.from_checkpoint(f'{folder}/run'),
    short,
    pairs.load_pairs(short),
    settings=settings,
  )
  print(f'{result.record["num_successes"]} of 4 pairs')
  return result.record


if __name__ == '__main__':
  main()
