"""Plans of the first edition, see `tests/golden/plans.py`."""

import importlib.util
import pathlib

import compiler
import numpy as np
import pytest

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'


def load_generator():
  spec = importlib.util.spec_from_file_location('plans', GOLDEN / 'plans.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


plans = load_generator()
# A search and a descent: compiled as users have it, each takes seconds.
QUICK = [('quadratic', 'cem'), ('quadratic', 'gradient')]


@pytest.mark.parametrize(
  ('problem', 'planner'),
  [
    pytest.param(*names, marks=[pytest.mark.slow] * (names not in QUICK))
    for names in plans.names()
  ],
)
def test_plans_are_those_of_the_first_edition(problem, planner):
  """Equal to the bit on the CPU that wrote them; others round otherwise."""
  found = plans.flatten(plans.plan(problem, planner, compiler.AS_USERS_HAVE_IT))
  with np.load(GOLDEN / 'plans.npz') as file:
    expected = {name: file[f'{problem}/{planner}/{name}'] for name in found}
  for name, value in expected.items():
    scale = np.max(np.abs(value), initial=1e-3)
    np.testing.assert_allclose(
      found[name], value, rtol=0, atol=1e-6 * scale, err_msg=name
    )
