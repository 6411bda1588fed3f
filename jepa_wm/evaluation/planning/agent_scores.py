"""How each of several agents fares, beside all of them together."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jepa_wm.envs import row_programs, worlds
from jepa_wm.evaluation.planning import protocol as protocol_lib
from jepa_wm.evaluation.planning import score as score_lib
from jepa_wm.evaluation.statistics import intervals


def reached(
  environment: str, vectors: Any, goals: Any, own_worlds: Any = None
) -> np.ndarray | None:
  """Whether each agent is where it should be.

  Args:
    environment: name of the world.
    vectors: `[n, T, V]`, true states.
    goals: as states, leaves `[n, ...]`.
    own_worlds: the world of each row, where they have their own.

  Returns:
    Bool `[n, T, G]`; None in a world of one agent.
  """
  world = worlds.get(environment)
  if world.num_agents is None:
    return None

  def judge(env: Any, path: jax.Array, goal: Any) -> jax.Array:
    look = lambda vector: env.successes(env.from_vector(vector), goal)
    return jax.vmap(look)(path)

  programs = row_programs.RowPrograms(world.make())
  paths = np.asarray(vectors, np.float32)
  goals = jax.tree.map(np.asarray, goals)
  return np.asarray(
    programs.each('agents', judge, own_worlds, paths, goals), bool
  )


def describe(
  protocol: protocol_lib.Protocol,
  reached: np.ndarray | None,
  floor: Sequence[float] | None,
  ceiling: Sequence[float] | None,
) -> dict[str, Any]:
  """What a record says of each agent.

  Args:
    protocol: its rule of success.
    reached: what `reached` answers of all problems.
    floor: success of each with random actions.
    ceiling: with the expert's.

  Returns:
    'agents', or nothing in a world of one.
  """
  if reached is None:
    return {}
  won = score_lib.solved(protocol, reached)
  numbers, num_pairs = won.sum(axis=0).tolist(), len(won)
  return {
    'agents': {
      'num_agents': len(numbers),
      'num_successes': numbers,
      'success_rate': [number / num_pairs for number in numbers],
      'interval_95': [
        list(intervals.wilson_interval(number, num_pairs)) for number in numbers
      ],
      'mean_success_rate': float(won.mean()),
      'random_floor': None if floor is None else list(floor),
      'expert_ceiling': None if ceiling is None else list(ceiling),
    }
  }
