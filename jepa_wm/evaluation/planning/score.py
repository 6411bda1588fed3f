"""How problems go: what is kept of every step that is played."""

import dataclasses

import numpy as np

from jepa_wm.envs import stage as stage_lib
from jepa_wm.evaluation.planning import protocol as protocol_lib


@dataclasses.dataclass
class Score:
  """The state of `P` problems on their way to their goals.

  Attributes:
    protocol: budget and success rule.
    vectors: float32 `[P, budget + 1, V]`, true states; the last one to the end
      where an episode ended early.
    first_success: int `[P]`, steps until the goal was reached, -1 before.
    at_end: bool `[P]`, whether the last state so far lies in the goal.
    initially_solved: bool `[P]`.
    start_distance: `[P]`, in the world's unit.
    final_distance: `[P]`, of the last state so far.
    failures: problem to the reason why its world broke; it has failed, whatever
      it had reached.
  """

  protocol: protocol_lib.Protocol
  vectors: np.ndarray
  first_success: np.ndarray
  at_end: np.ndarray
  initially_solved: np.ndarray
  start_distance: np.ndarray
  final_distance: np.ndarray
  failures: dict[int, str]

  @classmethod
  def begin(
    cls, protocol: protocol_lib.Protocol, survey: stage_lib.Survey
  ) -> 'Score':
    """The score before the first step.

    Args:
      protocol: budget and success rule.
      survey: where all problems start.
    """
    vectors, distances, solved = survey
    vectors = vectors.astype(np.float32)[:, None]
    counts = solved & (protocol.success != 'after any step')
    return cls(
      protocol=protocol,
      vectors=np.repeat(vectors, protocol.budget + 1, axis=1),
      first_success=np.where(counts, 0, -1).astype(np.int32),
      at_end=solved.copy(),
      initially_solved=solved,
      start_distance=distances,
      final_distance=distances.copy(),
      failures={},
    )

  def is_open(self, problems: np.ndarray) -> np.ndarray:
    """Whether there is still something to play for, bool `[n]`."""
    going = self.first_success[problems] < 0
    if self.protocol.success == 'at the end':
      going = np.ones_like(going)
    return going & ~np.isin(problems, list(self.failures))

  def note(
    self, problems: np.ndarray, played: int, trail: stage_lib.Trail
  ) -> None:
    """Writes down steps.

    Args:
      problems: `[n]`.
      played: steps played before.
      trail: where the next ones led.
    """
    count = trail.vectors.shape[1]
    first = played + 1 + np.argmax(trail.reached, axis=1)
    newly = np.any(trail.reached, axis=1) & (self.first_success[problems] < 0)
    self.first_success[problems[newly]] = first[newly]
    self.at_end[problems] = trail.reached[:, -1]
    self.final_distance[problems] = trail.distances[:, -1]
    self.vectors[problems, played + 1 : played + 1 + count] = trail.vectors
    self.vectors[problems, played + 1 + count :] = trail.vectors[:, -1:]

  def fail(self, problem: int, reason: str) -> None:
    """Gives a problem up; the first reason stays."""
    if problem not in self.failures:
      self.failures[problem] = reason
      self.first_success[problem] = -1
      self.at_end[problem] = False


def solved(protocol: protocol_lib.Protocol, reached: np.ndarray) -> np.ndarray:
  """Whether tries succeeded by the rule of a protocol.

  Args:
    protocol: says when reaching a goal counts.
    reached: bool `[n, T + 1, ...]`, whether it was, the start included.

  Returns:
    Bool `[n, ...]`.
  """
  if protocol.success == 'at the end':
    return reached[:, -1]
  first = 0 if protocol.success == 'any time' else 1
  return np.any(reached[:, first:], axis=1)
