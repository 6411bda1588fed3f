"""A batch of worlds behind one face: all that those who play know of worlds.

`device_stage.DeviceStage` holds JAX worlds, `host_stage.HostStage` worlds in
worker processes; `worlds.World.stage` opens the right one:

  with worlds.get('two_room').stage(image_size=64) as stage:
    rows = np.arange(8)
    stage.place(rows, Problems(starts, goals))
    trail = stage.play(rows, actions)
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np


class Purpose(enum.Enum):
  """What random numbers are for; no purpose shares them with another."""

  EPISODES = 'episodes'
  """Collected episodes, by seed and number."""
  PAIRS = 'pairs'
  """Episodes that starts and goals are cut out of, by seed and number."""
  RESETS = 'resets'
  """Starts and goals that lie on no episode, by seed and number."""
  TRIES = 'tries'
  """Tries from given starts, by seed, pair and repeat."""
  TELEPORTS = 'teleports'
  """Where bodies are put in the middle of an episode, by seed and pair."""


class Problems(NamedTuple):
  """Where rows are and where they should end, leaves `[n, ...]`.

  Attributes:
    states: where they are.
    goals: as `states`.
    worlds: the world of each row, where they have their own
      (`evaluation.shifts`).
  """

  states: Any
  goals: Any
  worlds: Any = None


Streams = Any
"""Random numbers of `n` rows, see `Stage.streams`; an opaque batch."""


@dataclasses.dataclass(frozen=True)
class Role:
  """Who acts: one policy of a world, or one drawn for every episode.

  Attributes:
    policies: names of policies, see `worlds.World.policies`.
    action_noise: standard deviation of the noise on their actions.
    odds: relative odds of `policies`; None where there is only one and nothing
      is drawn.
  """

  policies: tuple[str, ...]
  action_noise: float = 0.0
  odds: tuple[float, ...] | None = None


class Survey(NamedTuple):
  """How states lie to goals.

  Attributes:
    vectors: `[n, V]`, true states.
    distances: `[n]` from the goals, in the world's unit.
    reached: bool `[n]`, whether they count as having reached their goals.
  """

  vectors: np.ndarray
  distances: np.ndarray
  reached: np.ndarray


class Trail(NamedTuple):
  """Where `k` actions led.

  Attributes:
    vectors: `[n, k, V]`, the true states after each action.
    distances: `[n, k]` from the goals, in the world's unit.
    reached: bool `[n, k]`; never true of a row that failed.
    rewards: float `[n, k]`, None of a world that gives none.
  """

  vectors: np.ndarray
  distances: np.ndarray
  reached: np.ndarray
  rewards: np.ndarray | None


class Episodes(NamedTuple):
  """What `n` rows did in `T` steps under a policy.

  Attributes:
    vectors: float32 `[n, T + 1, V]`, true states, the first included.
    reached: bool `[n, T + 1]`, whether each state lies in the goal.
    actions: float32 `[n, T, A]`.
    rewards: float32 `[n, T]`, None of a world that gives none.
    observations: `pixels` `[n, T + 1, height, width, 3]` and `proprio`
      `[n, T + 1, S]`, None where nobody looked.
    policies: int `[n]`, which policy of the role acted.
  """

  vectors: Any
  reached: Any
  actions: Any
  rewards: Any
  observations: Mapping[str, Any] | None
  policies: Any


class Stage(Protocol):
  """Rows of one world, each with a goal.

  A state is what the world's own kind of state is: a pytree of a JAX world, a
  vector `[V]` of a world on the host; batches have leaves `[n, ...]`.

  Attributes:
    num_rows: rows that fit on the stage at once.
    image_size: height and width of the pictures.
    action_dim: size `A` of a raw action.
    action_low: lower bounds of a raw action, `[A]`.
    action_high: upper bounds, `[A]`.
    is_discrete: whether actions are one-hot rows.
    proprio_dim: size `S` of what the body feels, 0 where it feels nothing.
    failures: row to the reason why its world broke; it stands still until it is
      placed or reset again.
    compile_seconds: time spent in compiling so far.
    parameters: what describes the world, JSON-able.
  """

  num_rows: int
  image_size: int
  is_discrete: bool
  proprio_dim: int
  compile_seconds: float

  @property
  def action_dim(self) -> int: ...

  @property
  def action_low(self) -> Any: ...

  @property
  def action_high(self) -> Any: ...

  @property
  def failures(self) -> Mapping[int, str]: ...

  @property
  def parameters(self) -> dict[str, Any]: ...

  def __enter__(self) -> Self: ...

  def __exit__(self, *error: object) -> None: ...

  def streams(
    self, purpose: Purpose, seed: int, *numbers: np.ndarray
  ) -> Streams:
    """Random numbers of rows, which depend on the arguments alone.

    Args:
      purpose: what they are for.
      seed: not negative.
      *numbers: int `[n]`, what tells rows apart; two arrays for tries.
    """
    ...

  def reset(self, rows: np.ndarray, streams: Streams) -> None:
    """Begins an episode with its own target in each of `rows` `[n]`."""
    ...

  def place(
    self, rows: np.ndarray, problems: Problems, *, aim: bool = False
  ) -> None:
    """Moves `rows` `[n]` to states and gives them goals.

    Args:
      rows: `[n]`.
      problems: of each.
      aim: whether the goals become the targets of those who act, which some
        worlds draw.
    """
    ...

  def survey(self, states: Any, goals: Any, worlds: Any = None) -> Survey:
    """Says how states lie to goals, see `place`; moves no row."""
    ...

  def observe(self, rows: np.ndarray) -> dict[str, Any]:
    """Looks at `rows`: `pixels` `[n, height, width, 3]`, `proprio` `[n, S]`."""
    ...

  def play(self, rows: np.ndarray, actions: np.ndarray) -> Trail:
    """Plays raw actions `[n, k, A]` in `rows` `[n]`."""
    ...

  def teleport(self, rows: np.ndarray, streams: Streams) -> np.ndarray:
    """Moves the bodies of `rows` `[n]` to where no goal of theirs is.

    Returns:
      The true states `[n, V]` that this leads to.

    Raises:
      ValueError: a world whose bodies cannot be moved.
    """
    ...

  def preview(self, rows: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Says where blocks of raw actions would lead, and plays none.

    Args:
      rows: which.
      blocks: `[n, m, k, A]`, of as many steps each as will be played at once.

    Returns:
      True states `[n, j, V]`, the present one first: `m * k + 1` of them where
      the world can be tried out, the present one alone where it cannot.
    """
    ...

  def perform(
    self,
    rows: np.ndarray,
    role: Role,
    streams: Streams,
    *,
    num_steps: int,
    look: bool = False,
    stop: bool = False,
  ) -> Episodes:
    """Lets a policy act in `rows`, which are reset or placed anew afterwards.

    Args:
      rows: `[n]`.
      role: who acts.
      streams: of the rows; after `reset` the same that it was given.
      num_steps: steps `T`.
      look: whether to observe every frame.
      stop: whether rows may stand still once they have reached their goals.
    """
    ...

  def draw_goals(self, rows: np.ndarray, streams: Streams) -> np.ndarray:
    """Vectors `[n, V]` where rows just reset may be asked to go.

    They are the rows' targets, moved to where the world lets them stand.
    """
    ...

  def draw_integers(self, streams: Streams, highs: np.ndarray) -> np.ndarray:
    """Uniform integers `[n]` in `[0, highs)`, apart from all other draws."""
    ...

  def states(self, vectors: np.ndarray) -> Any:
    """The states that vectors `[n, V]` describe, leaves `[n, ...]`."""
    ...

  def vectors(self, states: Any, worlds: Any = None) -> np.ndarray:
    """The vectors `[n, V]` of states, see `place`."""
    ...

  def are_solved(self, starts: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Whether vectors `[n, V]` lie in goals `[n, V]`, bool `[n]`."""
    ...

  def pictures(self, vectors: np.ndarray, worlds: Any = None) -> np.ndarray:
    """What states `[n, V]` look like, uint8 `[n, height, width, 3]`.

    Raises:
      ValueError: a state that cannot be set or drawn.
    """
    ...

  def scenes(self, vectors: np.ndarray) -> np.ndarray:
    """Pictures of many states, whose median shows what does not move.

    Args:
      vectors: states `[n, V]` to show where the world is not reset in an
        instant.

    Raises:
      ValueError: a state that cannot be set or drawn.
    """
    ...


def waves(count: int, num_rows: int) -> Sequence[np.ndarray]:
  """Numbers `0..count - 1` in turns of at most `num_rows`."""
  return np.split(np.arange(count), range(num_rows, count, num_rows))
