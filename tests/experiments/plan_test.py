import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import types

import compiler
import jax
import numpy as np
import pytest
from given_flags import given_flags

from experiments import plan
from jepa_wm import exports, models, units
from jepa_wm.evaluation.diagnostics import (
  finding,
  rollout_error,
  straightness,
)
from jepa_wm.evaluation.planning import planning_benchmark
from jepa_wm.evaluation.report import report
from jepa_wm.evaluation.statistics import runs
from jepa_wm.recipes import planning_groups, planning_runs

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  """An untrained model of a few thousand parameters."""
  tiny = models.from_config({
    'name': 'lewm', 'latent_dim': 8,
    'encoder': {
      'name': 'conv', 'image_size': 16, 'features': 16, 'channels': (4, 8),
      'strides': (2, 2), 'blocks': (1, 1),
    },
    'projector': {'hidden_dim': 16},
    'actions': {'features': 8, 'smoothed_dim': 4},
    'predictor': {
      'history': 2, 'width': 8, 'depth': 1, 'num_heads': 2, 'head_dim': 4,
      'mlp_dim': 16,
    },
  })  # fmt: skip
  rng = np.random.default_rng(0)
  model = exports.WorldModel(
    tiny,
    jax.tree.map(
      # Running variances among them, so nothing negative.
      lambda leaf: rng.uniform(0.0, 0.2, leaf.shape).astype(leaf.dtype),
      jax.eval_shape(tiny.init, jax.random.key(0)),
    ),
    units.ActionStatistics(
      np.zeros(2, np.float32), np.full(2, 0.8, np.float32)
    ),
  )
  path = tmp_path_factory.mktemp('checkpoints') / 'tiny'
  model.save(path)
  config = json.loads((path / 'config.json').read_text())
  config['record'] = {'config': {'data': {'environment': 'two_room'}}}
  (path / 'config.json').write_text(json.dumps(config))
  return path


def _environment():
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  # Floors and ceilings are kept there.
  cache = pathlib.Path(tempfile.gettempdir()) / 'jepa_wm_tests'
  environment['XDG_CACHE_HOME'] = str(cache)
  environment['XLA_FLAGS'] = compiler.FLAGS
  return environment


def _command(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'experiments.plan', *arguments],
    cwd=ROOT,
    env=_environment(),
    capture_output=True,
    text=True,
    timeout=300,
  )


def _sentence(checkpoint, *arguments):
  """What `main` leaves with, given flags; they are forgotten afterwards."""
  given = given_flags(plan, f'--checkpoint={checkpoint}', *arguments)
  with given, pytest.raises(SystemExit) as stop:
    plan.main(['plan'])
  assert isinstance(stop.value.code, str)  # sys.exit prints it and returns 1.
  return stop.value.code


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--num_samples=10', '--num_elites=20'], 'num_samples, got 20 of 10'),
    (['--set=num_keep=3'], "no option 'num_keep'. Did you mean 'num_kept'?"),
    (['--set=init_std=wide'], "a quoted string for a value, got 'init_std=wid"),
    (['--set=min_std'], 'name=value with a number, True, False, None'),
    (['--set=min_std=0.1', '--set=min_std=0.2'], 'min_std is given twice'),
    (['--num_samples=9', '--set=num_samples=9'], 'num_samples is given twice'),
    (['--set=num_kept=2.0'], "'num_kept' of planner 'cem' must be int, got 2."),
    (['--history=0'], 'history must be at least 1'),
    (['--history=3'], 'expected 1 to 2 frames (history), got 3'),
    (['--history=2', '--memory=state'], "do nothing beside memory='state'"),
    (['--horizon=11'], 'horizon must fit into the budget of 50'),
    (['--horizon=2', '--receding_horizon=3'], 'receding_horizon must not'),
    (['--num_pairs=201'], 'num_pairs must lie in 1..200'),
    (['--num_pairs=0'], 'num_pairs must be at least 1'),
    (['--batch_size=0'], 'batch_size must be at least 1'),
    (['--num_iterations=0'], 'num_iterations must be at least 1'),
    (['--protocol=medium'], 'protocol must be one of detour, h100, h1'),
    (['--protocol='], 'protocol must name one at least'),
    (['--planner='], 'planner must name one at least'),
    (['--num_seeds=99999'], 'num_seeds must be at most 10000'),
    (['--planner=cem,magic'], 'planner must be one of cem, icem, mppi'),
    (['--set=icem.num_kept=2'], "must be one of cem, got 'icem'"),
    (['--planner=cem,icem', '--set=num_keep=3'], "no option 'num_keep'"),
    (['--environment=three_room'], "two_room_agents, got 'three_room'"),
    (['--shift=agent_color,gravity'], "lighting, got 'gravity'"),
    (['--episodes=nowhere'], 'No episodes at nowhere'),
    (['--diagnostics=straigtness'], "Did you mean 'straightness'?"),
    (
      ['--replan_on_surprise=0.99', '--protocol=long'],
      'plans after every block',
    ),
    (['--tune_margin=0.1'], 'would do nothing without tune_budget'),
    (['--tune_budget', '--budget_flops=1e6'], 'both say how many candidates'),
    (['--tune_budget', '--tune_margin=2'], 'tune_margin must be a share'),
    (['--replan_on_surprise=0.999'], 'at most 0.995'),
    (['--disturb=teleport', '--disturb_at=3'], 'whole blocks of 5 environment'),
    (['--protocol=swm-v1', '--num_pairs=9'], 'num_pairs must be 50'),
  ],
)
def test_flags_that_make_no_sense(arguments, message, checkpoint, tmp_path):
  out = tmp_path / 'out'
  assert message in _sentence(checkpoint, f'--out={out}', *arguments)
  assert not out.exists()


def test_a_missing_checkpoint(tmp_path):
  sentence = _sentence(tmp_path / 'none', f'--out={tmp_path / "out"}')
  assert 'none' in sentence and 'config.json' in sentence
  assert not (tmp_path / 'out').exists()


def test_a_cut_off_checkpoint(checkpoint, tmp_path):
  broken = tmp_path / 'broken'
  broken.mkdir()
  for source in checkpoint.iterdir():
    content = source.read_bytes()
    if source.suffix == '.safetensors':
      content = content[: len(content) // 2]
    (broken / source.name).write_bytes(content)
  assert 'may be cut off' in _sentence(broken, f'--out={tmp_path / "out"}')


def test_an_unwritable_folder(checkpoint, tmp_path):
  (tmp_path / 'file').write_text('in the way')
  sentence = _sentence(checkpoint, f'--out={tmp_path / "file" / "out"}')
  assert 'cannot write to' in sentence and '--out' in sentence


@pytest.mark.slow
def test_a_wrong_command_line_ends_in_one_sentence(tmp_path):
  for arguments, words in (
    ([f'--checkpoint={tmp_path / "none"}'], 'config.json'),
    (['--num_elite=3'], 'Did you mean --num_elites?'),
  ):
    done = _command(f'--out={tmp_path / "out"}', *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert 'Traceback' not in done.stderr + done.stdout
    assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_from_the_command_line_to_the_report(checkpoint, tmp_path):
  out = tmp_path / 'out'
  arguments = [
    f'--checkpoint={checkpoint}',
    '--num_pairs=4',
    '--num_samples=16',
    '--num_elites=4',
    '--num_iterations=2',
    '--set=min_std=0.05',
    '--set=num_kept=1',
    '--distance=cosine',
    '--history=2',
    f'--out={out}',
  ]
  done = _command(*arguments)
  assert done.returncode == 0, done.stderr
  assert 'random floor' in done.stdout and 'short' in done.stdout
  assert 'planning (short): 100%' in done.stderr
  assert sorted(path.name for path in out.iterdir()) == [
    'episodes.csv',
    'episodes.gif',
    'report.html',
    'results.json',
    'runs',
    'search.png',
  ]
  (record,) = json.loads((out / 'results.json').read_text())
  assert record['num_pairs'] == 4
  planner = record['planner']
  assert (planner['name'], planner['num_samples']) == ('cem', 16)
  assert (planner['min_std'], planner['num_kept']) == (0.05, 1)
  assert (planner['distance'], planner['history']) == ('cosine', 2)
  assert 'memory' not in planner
  assert record['checkpoint'] == str(checkpoint)
  page = (out / 'report.html').read_text()
  assert f'python -m experiments.plan --checkpoint={checkpoint}' in page
  assert '--set=min_std=0.05 --set=num_kept=1' in page
  assert '--distance=cosine' in page
  assert 'straight pushes' in page
  assert len((out / 'episodes.csv').read_text().splitlines()) == 5
  pictures = (out / 'episodes.gif').read_bytes()
  (folder,) = (out / 'runs').iterdir()
  assert folder.name.startswith('tiny-short-cem-seed0-')
  assert (folder / 'episodes.gif').read_bytes() == pictures


SMALL = (
  '--num_pairs=4',
  '--num_samples=8',
  '--num_elites=2',
  '--num_iterations=1',
)


@pytest.fixture
def planned(checkpoint, tmp_path, monkeypatch):
  """Calls `run` with flags, which are forgotten afterwards."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))

  def call(*arguments):
    flags = [f'--checkpoint={checkpoint}', f'--out={tmp_path / "out"}']
    with given_flags(plan, *flags, *SMALL, *arguments):
      return plan.run(show_progress=False)

  return call


def _pretend(model, chosen, problems, *, settings, seed, checkpoint, **given):
  """Half of the pairs are solved, without any planning."""
  episodes = [
    planning_benchmark.Episode(int(i), bool(i % 2 == 0), False, 7, 50.0, 9.0)
    for i in problems.ids
  ]
  record = {
    'protocol': chosen.to_dict(),
    'manifest_sha256': problems.manifest_sha256,
    **planning_benchmark.summarize(episodes, chosen),
    'initially_solved': 0.1,
    'random_floor': given['baseline'].floor,
    'expert_ceiling': given['baseline'].ceiling,
    'ms_per_plan': 3.0,
    'num_parameters': 9,
    'planner': settings.to_dict(),
    'checkpoint': checkpoint,
    'training': {'seed': None, 'config': None},
    'shift': given['shift'],
    'num_invalid': problems.num_invalid,
    'seed': seed,
    'device': 'none',
    'versions': {},
    'commit': None,
    'seconds': 1.0,
  }
  return types.SimpleNamespace(record=record, episodes=episodes)


@pytest.fixture
def undrawn(monkeypatch):
  """Neither pictures nor what surrounds planning."""
  nothing = {'search.png': b'', 'search_dark.png': b'', 'curve.svg': b''}
  monkeypatch.setattr(
    report,
    'draw',
    lambda result, findings, **drawn: runs.Run(
      result.record, result.episodes, nothing, findings
    ),
  )
  monkeypatch.setattr(
    rollout_error.RolloutError,
    '__call__',
    lambda *given: finding.Finding('How far', {'recorded': 4.5}),
  )


def test_a_list_is_one_table_and_nothing_is_measured_twice(
  planned, undrawn, tmp_path, monkeypatch, capsys
):
  measured = []

  def measure(chosen, problems, *, stage, seed):
    measured.append((chosen.name, seed))
    return planning_benchmark.Baseline(0.25, 1.0)

  monkeypatch.setattr(planning_benchmark, 'measure_baseline', measure)
  lists = '--protocol=short,h50', '--planner=cem,icem', '--set=icem.num_kept=1'
  began = []

  def interrupted(model, chosen, problems, **given):
    began.append((chosen.name, given['settings'].name))
    if len(began) == 3:
      raise KeyboardInterrupt
    if len(began) == 2:
      raise ValueError('the second one\nbroke')
    return _pretend(model, chosen, problems, **given)

  monkeypatch.setattr(planning_benchmark, 'run', interrupted)
  with pytest.raises(planning_runs.Interrupted, match='1 of 4 results are kep'):
    planned(*lists)
  path = tmp_path / 'out' / 'results.json'
  (kept,) = json.loads(path.read_text())
  outcome = planned(*lists)
  # What was finished is not begun again, what had failed is.
  assert began[3:] == [('short', 'icem'), ('h50', 'cem'), ('h50', 'icem')]
  assert measured == [('short', 0), ('h50', 0)]
  assert outcome.num_kept == 1 and not outcome.failures
  records = json.loads(path.read_text())
  assert len(records) == 4 and records[0] == kept
  assert [r['planner'].get('num_kept') for r in records] == [0, 1, 0, 1]
  assert [r['protocol']['name'] for r in records] == [
    *['short'] * 2,
    *['h50'] * 2,
  ]
  printed = capsys.readouterr().out
  assert '1 of 4 had been measured before' in printed
  page = (tmp_path / 'out' / 'report.html').read_text()
  assert '4 runs compared' in page
  assert '--planner=cem,icem' in page and '--protocol=short,h50' in page
  # One that fails does not lose the others.
  monkeypatch.setattr(planning_benchmark, 'run', _refuse)
  outcome = planned(*lists, '--num_seeds=2')
  assert len(outcome.finished) == 4 and len(outcome.failures) == 4
  assert outcome.failures[0].endswith('tiny, short, cem, seed 1: not today')
  assert (
    'short, cem, seed 1: not today'
    in (tmp_path / 'out' / 'report.html').read_text()
  )


def test_what_is_asked_later_is_answered_without_planning_again(
  planned, undrawn, tmp_path, monkeypatch
):
  asked = []

  def answer(self, question):
    asked.append(question.episodes.horizon)
    return finding.Finding('How straight', {'mean_cosine': 0.5})

  monkeypatch.setattr(straightness.Straightness, '__call__', answer)
  monkeypatch.setattr(
    planning_benchmark,
    'measure_baseline',
    lambda *given, **more: planning_benchmark.Baseline(0.25, 1.0),
  )
  monkeypatch.setattr(planning_benchmark, 'run', _pretend)
  out = tmp_path / 'out'
  read = lambda: json.loads((out / 'results.json').read_text())[0]
  planned()
  assert read()['findings'] == {'rollout_error': {'recorded': 4.5}}
  monkeypatch.setattr(planning_benchmark, 'run', _refuse)
  for _ in range(2):
    outcome = planned('--diagnostics=straightness,rollout_error')
    assert outcome.num_kept == 1
    assert list(read()['findings']) == ['straightness', 'rollout_error']
  assert asked == [5]
  assert 'How straight' in (out / 'report.html').read_text()
  planned('--diagnostics=')
  assert 'findings' not in read()


def test_a_run_in_the_folder_of_another_is_measured_again(
  planned, undrawn, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(
    planning_benchmark,
    'measure_baseline',
    lambda *given, **more: planning_benchmark.Baseline(0.25, 1.0),
  )
  monkeypatch.setattr(planning_benchmark, 'run', _pretend)
  planned('--num_seeds=2')
  first, second = sorted((tmp_path / 'out' / 'runs').iterdir())
  shutil.rmtree(second)
  shutil.copytree(first, second)
  assert planned('--num_seeds=2').num_kept == 1
  assert f'Measured again: {second}' in capsys.readouterr().err
  records = json.loads((tmp_path / 'out' / 'results.json').read_text())
  assert [record['seed'] for record in records] == [0, 1]


def _refuse(*arguments, **given):
  raise RuntimeError('not today\nnor tomorrow')


@pytest.mark.slow
def test_seeds_and_shifts_each_have_their_row(planned, undrawn, tmp_path):
  outcome = planned('--shift=wall', '--num_seeds=2')
  records = json.loads((tmp_path / 'out' / 'results.json').read_text())
  assert [(r['shift'], r['seed']) for r in records] == [
    (shift, seed) for shift in (None, 'wall') for seed in (0, 1)
  ]
  assert records[0]['num_invalid'] == records[1]['num_invalid'] == 0
  assert all(r['num_pairs'] + r['num_invalid'] == 4 for r in records)
  assert len({r['random_floor'] for r in records}) > 1
  assert len(outcome.finished) == 4


def test_the_world_is_the_one_that_a_checkpoint_was_trained_in(
  checkpoint, tmp_path
):
  assert planning_groups.environment_of('two_room_small') == 'two_room'
  assert planning_groups.environment_of(checkpoint) == 'two_room'
  elsewhere = tmp_path / 'elsewhere'
  shutil.copytree(checkpoint, elsewhere)
  config = json.loads((elsewhere / 'config.json').read_text())
  config['record'] = {'config': {'data': {'environment': 'mars'}}}
  (elsewhere / 'config.json').write_text(json.dumps(config))
  sentence = _sentence(elsewhere, f'--out={tmp_path / "out"}')
  assert sentence.startswith('environment must be one of')
  assert "got 'mars'" in sentence
  # Never another world in its place.
  config['record'] = {}
  (elsewhere / 'config.json').write_text(json.dumps(config))
  sentence = _sentence(elsewhere, f'--out={tmp_path / "out"}')
  assert 'does not say which world' in sentence
  assert '--environment' in sentence and 'two_room' in sentence


def test_what_is_named_twice_is_refused(checkpoint, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'model').symlink_to(checkpoint)
  for names in ('two_room_small,two_room_small', f'{checkpoint},model'):
    sentence = _sentence(names, f'--out={tmp_path / "out"}')
    assert 'twice' in sentence and 'leave one out' in sentence
