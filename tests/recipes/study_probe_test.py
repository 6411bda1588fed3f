"""A study whose measure is a probe, from its training to its table."""

import pytest

from experiments.configs import variants
from jepa_wm import recipes
from jepa_wm.recipes import study_work
from jepa_wm.recipes.study import Published, Row, Size, Study

STUDY = Study(
  name='tiny/clips',
  question='Does it run?',
  source='nowhere',
  reference='1',
  measure='probe',
  rows={
    '1': Row(published=Published(value=73.7, source='nowhere')),
    '2': Row(probe={'num_clips': 2, 'layers': 2}),
    'tuned': Row(probe={'fine_tune': True}),
    'longer': Row(start='1', train={'model.encoder.num_frames': 6}),
  },
  sizes={
    'small': Size(
      config='vjepa.py:digits_tiny',
      train={
        'num_steps': 2,
        'eval_every': 2,
        'log_every': 1,
        'data.batch_size': 8,
        'data.num_eval_windows': 16,
      },
      probe={
        'data': 'digits',
        'width': 16,
        'num_train': 32,
        'num_validation': 16,
        'num_test': 24,
        'num_steps': 2,
        'learning_rates': (2e-3,),
        'weight_decays': (0.01,),
      },
      minutes=0.1,
    )
  },
  metrics=('vjepa/state/x.r2', 'random encoder/label/accuracy'),
  differs={'small': 'Everything.'},
)


@pytest.mark.slow
def test_right_answers_of_a_probe_are_the_outcomes(tmp_path):
  asked = recipes.Ablating(seeds=('0',), out=str(tmp_path))
  ablation = recipes.Ablation(asked, [STUDY], variants.resolve, 'ablate')
  ablation.check()
  # Rows that ask other questions of the same training.
  assert len({unit.training for unit in ablation.units}) == 2
  assert len({unit.digest for unit in ablation.units}) == 4
  assert study_work.work(ablation.units, say_fn=lambda x: None) == []
  for unit in ablation.units:
    result = study_work.load(unit)
    assert result.status == 'finished' and len(result.outcomes) == 24
    assert set(result.outcomes) <= {0, 1}
    accuracy = result.metrics['vjepa/label/accuracy']
    assert accuracy == pytest.approx(sum(result.outcomes) / 24)
    assert set(STUDY.metrics) <= result.metrics.keys()
  assert ablation.report([]) == 0
  folder = tmp_path / 'studies' / 'tiny' / 'clips-small'
  assert '73.7' in (folder / 'report.html').read_text()
