"""What is misspelt on a command line is answered by one sentence."""

import subprocess
import sys

import pytest
from absl import flags

from experiments import collect, command_line, convert, imports, plan, probe
from jepa_wm import recipes


def _parsed(monkeypatch, command, *arguments):
  """Parses as the command does, in a registry of its own."""
  monkeypatch.setattr(flags, 'FLAGS', flags.FlagValues())
  return command_line.parse(command.FLAGS, ['command', *arguments])


@pytest.mark.parametrize(
  ('command', 'argument', 'sentence'),
  [
    (plan, '--num_pair=5', 'no flag --num_pair. Did you mean --num_pairs?'),
    (collect, '--polcy=random', 'Did you mean --policy?'),
    (convert, '--set=x', 'There is no flag --set. Those of this command are'),
    (plan, '--num_pairs=five', "num_pairs must be an integer, got 'five'."),
    (probe, '--learning_rates=fast', "must be a number, got 'fast'."),
    (probe, '--pca=perhaps', "pca must be true or false, got 'perhaps'."),
    (
      plan,
      '--cost=lst',
      "linear, soonest, got 'lst'. Did you mean 'last'",
    ),
    (convert, '--fit=crob', "Did you mean 'crop'?"),
    (convert, '--store=flats', "Did you mean 'flat'?"),
    (probe, '--probe=liner', "Did you mean 'linear'?"),
    (plan, 'num_pairs=5', "as in --name=value, got 'num_pairs=5'."),
    (plan, '--import=nowhere.py', 'nowhere.py is none.'),
  ],
)
def test_a_flag(monkeypatch, command, argument, sentence):
  with pytest.raises(SystemExit) as stop:
    _parsed(monkeypatch, command, argument)
  assert sentence in stop.value.code and '\n' not in stop.value.code


@pytest.mark.parametrize(
  ('kind', 'values', 'sentence'),
  [
    ('Planning', {'planner': 'icm'}, "Did you mean 'icem'?"),
    ('Planning', {'protocol': 'shrt'}, "Did you mean 'short'?"),
    ('Planning', {'environment': 'two_rom'}, "Did you mean 'two_room'?"),
    ('Planning', {'environment': 'ice'}, 'imported first (--import'),
    ('Planning', {'checkpoint': 'two_room_smal'}, "mean 'two_room_small'?"),
    ('Planning', {'shift': 'agent_colr'}, "Did you mean 'agent_color'?"),
    ('Planning', {'success': 'any tim'}, "Did you mean 'any time'?"),
    ('Planning', {'distance': 'cosin'}, "Did you mean 'cosine'?"),
    ('Collecting', {'environment': 'two_rom'}, "Did you mean 'two_room'?"),
    ('Collecting', {'policy': 'exprt'}, "Did you mean 'expert'?"),
    ('Probing', {'background': 'checkrs'}, 'background must be one of none'),
    ('Converting', {'source': '', 'fit': 'crob'}, "Did you mean 'crop'?"),
  ],
)
def test_a_name(kind, values, sentence):
  with pytest.raises((ValueError, OSError)) as caught:
    made = getattr(recipes, kind)(**values)
    made.combinations()
  assert sentence in str(caught.value)


def test_a_file_of_one_s_own_is_imported_first(tmp_path):
  """Its planner is an option, and an error in it is one sentence."""
  own = tmp_path / 'own_search.py'
  own.write_text(
    'import dataclasses\n'
    'from jepa_wm import planning\n'
    "@planning.register('own_search')\n"
    '@dataclasses.dataclass(frozen=True, kw_only=True)\n'
    'class OwnSearch(planning.CEM):\n'
    '  reach: float = 1.0\n'
  )

  def said(*arguments):
    done = subprocess.run(
      [sys.executable, '-m', 'experiments.plan', *arguments],
      capture_output=True,
      text=True,
    )
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]

  wrong = '--planner=own_search', '--set=reech=2'
  assert "Did you mean 'reach'?" in said(f'--import={own}', *wrong)


def test_a_file_that_cannot_be_imported(tmp_path):
  (tmp_path / 'broken_file.py').write_text('\nimport jepa_wn\n')
  (tmp_path / 'json.py').write_text('')
  for name, sentence in (
    (
      'broken_file.py',
      'line 2: ModuleNotFoundError: No module named',
    ),
    ('json.py', 'has the name of another module'),
  ):
    with pytest.raises(SystemExit, match=sentence):
      imports.import_files(['plan', '--import', str(tmp_path / name)])
