"""The examples run, and reach what they set out for."""

import functools
import importlib.util
import pathlib
import types

import jax
import pytest

from jepa_wm.training import step

EXAMPLES = pathlib.Path(__file__).parents[1] / 'examples'


def load(name):
  spec = importlib.util.spec_from_file_location(name, EXAMPLES / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)


def test_your_own_dynamics_are_planned_with():
  assert load('plan_your_own_dynamics').main() < 0.05


@pytest.mark.slow
def test_a_loop_walks_to_its_goals():
  distances = load('plan_in_a_loop').main(num_problems=2, num_plans=10)
  assert distances.min() < 16.0


@pytest.mark.slow
def test_an_actor_learns_in_imagination_what_it_does_in_the_world(monkeypatch):
  # Its step runs for longer than it compiles: compiled to run fast.
  options = {'xla_backend_optimization_level': 1}
  jit = functools.partial(jax.jit, compiler_options=options)
  fast = types.SimpleNamespace(**{**vars(jax), 'jit': jit})
  monkeypatch.setattr(step, 'jax', fast)
  main = load('train_in_imagination').main
  assert main(num_updates=60, num_pairs=12) > 0.5


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_rejax_learns_in_the_model_that_ships():
  pytest.importorskip('rejax')
  with jax.numpy_rank_promotion('allow'):
    shares = load('train_with_rejax').main(num_blocks=6_144, num_pairs=4)
  assert set(shares) == {'short', 'long'}


def test_a_linear_map_reads_places(tmp_path):
  assert load('read_latents').main('latents.png', num_episodes=8) < 12.0
  assert (tmp_path / 'latents.png').is_file()


def test_examples_fit_on_a_page():
  for path in EXAMPLES.glob('*.py'):
    assert len(path.read_text().splitlines()) <= 80, path
    assert f'python examples/{path.name}' in path.read_text()
