import pytest

from experiments import overrides

CONFIG = '--config=experiments/configs/lewm.py:two_room_tiny'


@pytest.mark.parametrize(
  'arguments, names',
  [
    (['--config.model.predictor.dropout=0.5'], []),
    # As the config has it: nobody is misled.
    (['--config.model.predictor.dropout=0.0'], []),
    (['--config.log_every=7', '--config.seed=3'], []),
    (['--config.data.num_eval_windows=8'], []),
    # Of episodes that are played, and these lie on disk.
    (['--config.data.action_noise=0.5'], ['data.action_noise']),
    (
      ['--config.data.action_noise=0.5', '--config.data.source=simulation'],
      [],
    ),
    (['--config.optimizer.final_weight_decay=0.5'], ['final_weight_decay']),
    (
      [
        '--config.model.encoder.name=vit',
        '--config.model.encoder.patch_size=16',
        '--config.model.encoder.size=small',
      ],
      [],
    ),
  ],
)
def test_fields_without_effect_are_named(arguments, names):
  found = overrides.inert(['train', CONFIG, *arguments])
  assert len(found) == len(names)
  for sentence, name in zip(found, names):
    assert f'{name}=0.5 has no effect' in sentence


def test_a_command_without_overrides_traces_nothing(monkeypatch):
  monkeypatch.setattr(overrides.study_checks, 'effect', pytest.fail)
  assert overrides.inert(['train', CONFIG, '--workdir=runs/a']) == []
