"""Worlds outside JAX on stage: rows that worker processes step."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np

from jepa_wm.envs import host, host_play, host_pool
from jepa_wm.envs import stage as stage_lib

_STREAMS = {
  stage_lib.Purpose.EPISODES: 1,
  stage_lib.Purpose.TRIES: 2,
  stage_lib.Purpose.PAIRS: 3,
  stage_lib.Purpose.RESETS: 3,
  stage_lib.Purpose.TELEPORTS: 4,
}


class HostStage:
  """A `stage.Stage` of a `host.HostWorld`; states are vectors `[V]`.

  Its processes start when first needed and end with it: use it as a context.

  Attributes:
    world: the world's recipe.
  """

  compile_seconds = 0.0

  def __init__(
    self,
    world: host.HostWorld,
    policy_fn: Callable[..., host.HostPolicy],
    *,
    num_rows: int = 64,
    num_workers: int | None = None,
  ) -> None:
    """Opens nothing yet.

    Args:
      world: what to open.
      policy_fn: `(name, world, action_noise) -> policy`, as
        `worlds.World.policy`.
      num_rows: rows at once.
      num_workers: processes, see `host_pool.Pool`.
    """
    self.world, self.num_rows = world, num_rows
    self.image_size, self.is_discrete = world.image_size, world.is_discrete
    self.proprio_dim = world.proprio_dim
    self._policy_fn, self._num_workers = policy_fn, num_workers
    self._opened: host_pool.Pool | None = None
    self._goals: dict[int, np.ndarray] = {}

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: object) -> None:
    if self._opened is not None:
      self._opened.close()
      self._opened = None

  @property
  def action_dim(self) -> int:
    """Size `A` of a raw action."""
    return self.world.action_dim

  @property
  def action_low(self) -> np.ndarray:
    """Lower bounds of a raw action, `[A]`."""
    return self.world.action_low

  @property
  def action_high(self) -> np.ndarray:
    """Upper bounds of a raw action, `[A]`."""
    return self.world.action_high

  @property
  def failures(self) -> Mapping[int, str]:
    """Row to the reason why its world broke."""
    return self._pool.failures

  @property
  def parameters(self) -> dict[str, Any]:
    """What describes the world, JSON-able."""
    return {'image_size': self.image_size, **self.world.parameters}

  def streams(
    self, purpose: stage_lib.Purpose, seed: int, *numbers: np.ndarray
  ) -> list[np.random.Generator]:
    """Generators of rows; see `stage.Stage.streams`."""
    return [
      host_play.stream(_STREAMS[purpose], seed, *map(int, row))
      for row in zip(*numbers)
    ]

  def reset(self, rows: np.ndarray, streams: list[np.random.Generator]) -> None:
    """Begins an episode in each of `rows`; who acts draws its target."""
    self._pool.reset(rows, [int(rng.integers(2**31)) for rng in streams])
    for row in rows:
      self._goals.pop(int(row), None)

  def place(
    self, rows: np.ndarray, problems: stage_lib.Problems, *, aim: bool = False
  ) -> None:
    """Moves `rows`; see `stage.Stage.place`.

    Raises:
      ValueError: worlds of their own.
    """
    del aim  # These worlds draw no target.
    if problems.worlds is not None:
      raise ValueError('rows of a world on the host have no own worlds.')
    self._pool.place(rows, problems.states)
    self._goals.update(zip(map(int, rows), np.asarray(problems.goals)))

  def survey(
    self, states: np.ndarray, goals: np.ndarray, worlds: Any = None
  ) -> stage_lib.Survey:
    """Says how vectors lie to goals."""
    del worlds
    vectors, goals = np.asarray(states), np.asarray(goals)
    return stage_lib.Survey(
      vectors,
      self.world.distances(vectors, goals),
      self.world.successes(vectors, goals),
    )

  def observe(self, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Renders `rows`, and reads what the bodies feel."""
    self._pool.look(rows)
    return {
      'pixels': self._pool.pixels(rows),
      'proprio': self._pool.proprio(rows).astype(np.float32),
    }

  def play(self, rows: np.ndarray, actions: np.ndarray) -> stage_lib.Trail:
    """Plays raw actions `[n, k, A]`."""
    steps = self._pool.play(rows, actions)
    vectors, goals = steps.vectors, self._goals_of(rows)[:, None]
    works = ~self._pool.has_failed(rows)[:, None]
    return stage_lib.Trail(
      vectors,
      self.world.distances(vectors, goals),
      self.world.successes(vectors, goals) & works,
      steps.rewards if self.world.gives_reward else None,
    )

  def teleport(
    self, rows: np.ndarray, streams: list[np.random.Generator]
  ) -> np.ndarray:
    """Refused: nobody knows where else a body may be."""
    raise ValueError(
      f'{type(self.world).__name__} is stepped on the host, and does not say '
      'where else its body may be; take a world written in JAX.'
    )

  def preview(self, rows: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Where `rows` are, `[n, 1, V]`: the rest only the world knows."""
    del blocks
    return self._pool.vectors(rows)[:, None]

  def perform(
    self,
    rows: np.ndarray,
    role: stage_lib.Role,
    streams: list[np.random.Generator],
    *,
    num_steps: int,
    look: bool = False,
    stop: bool = False,
  ) -> stage_lib.Episodes:
    """Lets a policy act; see `stage.Stage.perform`."""
    world, chosen = self.world, np.zeros(len(rows), int)
    makers = [
      self._policy_fn(name, world, role.action_noise) for name in role.policies
    ]
    if role.odds is not None:
      odds = np.asarray(role.odds, float) / np.sum(role.odds)
      chosen = np.asarray([rng.choice(len(odds), p=odds) for rng in streams])
    goals = self.draw_goals(rows, streams)
    if look:
      self._pool.look(rows)

    def arrived(vectors: np.ndarray, indices: np.ndarray) -> np.ndarray:
      return world.successes(vectors, goals[indices])

    played = host_play.play(
      self._pool,
      rows,
      [makers[i](rng, goal) for i, rng, goal in zip(chosen, streams, goals)],
      num_steps=num_steps,
      look=look,
      done_fn=arrived if stop else None,
    )
    works = ~self._pool.has_failed(rows)[:, None]
    reached = world.successes(played.vectors, goals[:, None])
    seen = {'pixels': played.pixels, 'proprio': played.proprio}
    return stage_lib.Episodes(
      vectors=played.vectors,
      reached=reached & works,
      actions=played.actions,
      rewards=played.rewards if world.gives_reward else None,
      observations=seen if look else None,
      policies=chosen,
    )

  def draw_goals(
    self, rows: np.ndarray, streams: list[np.random.Generator]
  ) -> np.ndarray:
    """The goals `[n, V]` of `rows`, drawn where they have none."""
    for row, rng, vector in zip(rows, streams, self._pool.vectors(rows)):
      if int(row) not in self._goals:
        self._goals[int(row)] = self.world.target(rng, vector)
    return self._goals_of(rows)

  def draw_integers(
    self, streams: list[np.random.Generator], highs: np.ndarray
  ) -> np.ndarray:
    """Uniform integers `[n]` in `[0, highs)`."""
    pairs = zip(streams, highs)
    return np.asarray([int(rng.integers(int(high))) for rng, high in pairs])

  def states(self, vectors: np.ndarray) -> np.ndarray:
    """The vectors themselves."""
    return np.asarray(vectors, np.float32)

  def vectors(self, states: np.ndarray, worlds: Any = None) -> np.ndarray:
    """The states themselves."""
    del worlds
    return np.asarray(states)

  def are_solved(self, starts: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Whether vectors lie in goals, bool `[n]`."""
    return self.world.successes(starts, goals)

  def pictures(self, vectors: np.ndarray, worlds: Any = None) -> np.ndarray:
    """What states `[n, V]` look like."""
    del worlds
    # In this process: starting others takes longer than most pictures do.
    with host_pool.Pool(self.world, 1, num_workers=0) as pool:
      return pool.draw(np.asarray(vectors))

  def scenes(self, vectors: np.ndarray) -> np.ndarray:
    """Pictures of `vectors`."""
    return self.pictures(vectors)

  @property
  def _pool(self) -> host_pool.Pool:
    if self._opened is None:
      self._opened = host_pool.Pool(
        self.world, self.num_rows, num_workers=self._num_workers
      )
    return self._opened

  def _goals_of(self, rows: np.ndarray) -> np.ndarray:
    return np.stack([self._goals[int(row)] for row in rows])
