"""A study of seconds, from its episodes to its page, in this process."""

from experiments import ending
from experiments.configs import variants
from jepa_wm import recipes
from jepa_wm.recipes import study, study_work

_SEARCH = {'num_samples': 4, 'num_elites': 2}

TINY = study.Study(
  name='tiny/killed',
  question='Does it go on?',
  source='nowhere',
  reference='cem',
  rows={
    'cem': study.Row(),
    'icem': study.Row(
      plan={'planner': 'icem', 'options': {**_SEARCH, 'num_kept': 1}}
    ),
  },
  sizes={
    'small': study.Size(
      config='config.py',
      train={'num_steps': 2, 'eval_every': 2, 'data.num_eval_windows': 4},
      data={
        'num_episodes': 4, 'episode_length': 30, 'min_episode_length': 25,
        'stop_at_success': False, 'image_size': 16,
      },
      plan={'num_pairs': 2, 'options': {**_SEARCH, 'num_iterations': 1}},
      minutes=0.1,
    )
  },
)  # fmt: skip


def run(out: str) -> None:
  """Does what `experiments.ablate` has its jobs do, then writes the page.

  Args:
    out: folder for all files; `config.py` of `things` is in the current one.
  """
  asked = recipes.Ablating(study=(TINY.name,), out=out, seeds=('0',))
  make = lambda units: recipes.Ablation(
    recipes.Ablating(**{**vars(asked), 'units': units}),
    [TINY],
    variants.resolve,
    'again',
  )
  with ending.one_sentence('Interrupted.', out=out):
    ablation = make(())
    units = tuple(unit.digest for unit in ablation.units)
    ablation.check()
    failed = make(units).work()
    if ablation.report(['a job']) or failed:
      said = [x.sentence for u in ablation.units if (x := study_work.load(u))]
      raise SystemExit('\n'.join(filter(None, said)) or 1)
