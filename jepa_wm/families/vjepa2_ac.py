"""V-JEPA 2-AC: what an action does to a frozen video encoder's tokens."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jepa_wm.families import frozen
from jepa_wm.networks import block_causal, rotary
from jepa_wm.objectives import prediction
from jepa_wm.types import Params

Metrics = dict[str, jax.Array]

_POSE = 7
"""Size of a robot's state and action: position, rotation, gripper."""


@dataclasses.dataclass(frozen=True)
class VJEPA2AC(frozen.FrozenTokens):
  """V-JEPA 2-AC as plain fields; the predictor's defaults are published.

  A block-causal transformer sees the tokens of a window of frames, each with
  the action taken there and, with `state_dim`, the state of the robot. The loss
  is teacher forcing over all frames plus a rollout of `rollout_steps` frames
  from the first, both the mean distance to the normalised tokens that came;
  true states are fed in both. In planning, states are integrated from actions,
  which then must be in the state's own units (statistics of mean 0 and
  deviation 1).

  A latent is a frame's tokens in a row, followed by the state.

  Source: V-JEPA 2, arXiv 2506.09985, section 3, and its released code (vjepa2
  at c2963a4), whose rollout loss is the mean over its steps, where the paper
  has the last one.

  Attributes, beside those of `frozen.FrozenTokens`:
    state_dim: 7, the pose and gripper of a robot, which is also what actions
      are; or 0, no states.
    predictor_dim: width of the predictor.
    rotary_style: one of `rotary.STYLES`.
    prediction_distance: one of `prediction.DISTANCES`, of the loss.
    rollout_steps: frames of the rollout, at least 2 for it to add anything.
  """

  name: ClassVar[str] = 'vjepa2_ac'

  image_size: int = 256
  action_dim: int = _POSE
  action_block: int = 1
  history: int = 8
  encoder_image_size: int = 224
  token_norm: str = 'token'
  predictor_depth: int = 24
  predictor_heads: int = 16
  predictor_mlp_dim: int = 4096
  state_dim: int = _POSE
  predictor_dim: int = 1024
  rotary_style: str = 'vjepa2'
  prediction_distance: str = 'l1'
  rollout_steps: int = 2

  def __post_init__(self):
    """Checks every field.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    self.check(
      {
        'rotary_style': rotary.STYLES,
        'prediction_distance': tuple(prediction.DISTANCES),
      },
      may_be_zero=('state_dim',),
    )
    if self.predictor_dim % self.predictor_heads:
      raise ValueError(
        f'predictor_dim={self.predictor_dim} must be a multiple of '
        f'predictor_heads={self.predictor_heads}.'
      )
    poses = (self.state_dim, self.action_dim, self.action_block)
    if self.state_dim and poses != (_POSE, _POSE, 1):
      raise ValueError(
        'state_dim must be 0, or 7 with action_dim=7 and action_block=1 (pose '
        f'and gripper), got state_dim={poses[0]}, action_dim={poses[1]} and '
        f'action_block={poses[2]}.'
      )
    if self.rollout_steps > self.history:
      raise ValueError(
        f'rollout_steps={self.rollout_steps} must be at most '
        f'history={self.history}, the longest window of the predictor.'
      )

  @property
  def num_frames(self) -> int:
    """Fewest frames `T` of a batch that the loss can use."""
    return self.rollout_steps + 1

  @property
  def proprio_dim(self) -> int:
    """Numbers of the body's own state that `encode` takes."""
    return self.state_dim

  def predictor(self) -> block_causal.TokenPredictor:
    """Builds the predictor."""
    return block_causal.TokenPredictor(
      history=self.history,
      grid=self.grid,
      width=self.predictor_dim,
      depth=self.predictor_depth,
      num_heads=self.predictor_heads,
      mlp_dim=self.predictor_mlp_dim,
      rotary_style=self.rotary_style,
      dtype=jnp.dtype(self.dtype),
    )

  def init(self, rng_key: jax.Array) -> Params:
    """Fresh variables `{'params': ..., 'batch_stats': {}, 'frozen': ...}`.

    Args:
      rng_key: key of the parameters, consumed.

    Returns:
      The variables, float32.
    """
    predictor_key, frozen_key = jax.random.split(rng_key)
    tokens = jnp.zeros((1, 1, self.num_tokens, self.encoder_grid[2]))
    action = jnp.zeros((1, 1, self.action_block * self.action_dim))
    conditions = [action]
    if self.state_dim:
      conditions.append(jnp.zeros((1, 1, self.state_dim)))
    variables = self.predictor().init(predictor_key, tokens, conditions)
    return {
      'params': {'predictor': variables['params']},
      'batch_stats': {},
      'frozen': self.init_frozen(frozen_key),
    }

  def encode(
    self,
    variables: Params,
    pixels: jax.Array,
    proprio: jax.Array | None = None,
  ) -> jax.Array:
    """Encodes frames as they come.

    Args:
      variables: of the family.
      pixels: uint8 `[..., image_size, image_size, 3]` in 0..255.
      proprio: states `[..., state_dim]`; without them the latents can be goals
        and no starts.

    Returns:
      float32 `[..., P * D + state_dim]`, or `[..., P * D]` without states.

    Raises:
      ValueError: pixels of another size, or states of another size.
    """
    latents = self.join(self.encode_tokens(variables['frozen'], pixels))
    if proprio is None:
      return latents
    expected = (*latents.shape[:-1], self.state_dim)
    if proprio.shape != expected or not self.state_dim:
      raise ValueError(
        f'proprio must be {list(expected)} for state_dim={self.state_dim}, got '
        f'{list(proprio.shape)}.'
      )
    return jnp.concatenate([latents, proprio.astype(jnp.float32)], axis=-1)

  def apply_predictor(
    self,
    variables: Params,
    latents: jax.Array,
    actions: jax.Array,
    *,
    past: block_causal.Past | None = None,
    last_only: bool = False,
    dropout_key: jax.Array | None = None,
  ) -> tuple[jax.Array, block_causal.Past]:
    """See `frozen.FrozenTokens.apply_predictor`."""
    del dropout_key
    size = self.num_tokens * self.encoder_grid[2]
    if latents.shape[-1] != size + self.state_dim:
      raise ValueError(
        f'latents must be [..., {size + self.state_dim}], {size} numbers of '
        f'tokens and {self.state_dim} of the state (proprio), got shape '
        f'{latents.shape}.'
      )
    states = latents[..., size:]
    conditions = (actions, states) if self.state_dim else (actions,)
    answer: Any = self.predictor().apply(
      {'params': variables['params']['predictor']},
      self.split(latents[..., :size]),
      conditions,
      past=past,
      last_only=last_only,
    )
    predicted, remembered = answer
    after = self.join(self.normalize_tokens(predicted))
    if self.state_dim:
      first = states.shape[-2] - after.shape[-2]
      moved = integrate_pose(states[..., first:, :], actions[..., first:, :])
      after = jnp.concatenate([after, moved], axis=-1)
    return after, remembered

  def loss(
    self,
    variables: Params,
    target_variables: None,
    batch: Mapping[str, Any],
    rng_key: jax.Array,
  ) -> tuple[jax.Array, tuple[Metrics, Params, jax.Array]]:
    """The training loss of a batch.

    Args:
      variables: of the family.
      target_variables: None.
      batch: `observation`, a mapping of `pixels` uint8
        `[B, T, height, width, 3]` and with `state_dim` also `proprio`
        `[B, T, state_dim]`; and `action`
        `[B, T - 1, action_block * action_dim]`, with `T` from
        `rollout_steps + 1` to `history + 1`.
      rng_key: not used, nothing is drawn.

    Returns:
      The loss, and beside it the metrics, no batch statistics and the latents
      `[B, T, P * D + state_dim]`.

    Raises:
      ValueError: the batch has other shapes.
    """
    del target_variables, rng_key
    pixels, actions = self.check_batch(batch, self.num_frames)
    if pixels.shape[1] > self.history + 1:
      raise ValueError(
        f'pixels must have at most {self.history + 1} frames '
        f'(history={self.history} and the one after), got shape {pixels.shape}.'
      )
    proprio = batch['observation']['proprio'] if self.state_dim else None
    latents = self.encode(variables, pixels, proprio)
    terms = self.prediction_losses(variables, latents, actions)
    loss = terms['teacher_forcing'] + terms['rollout']
    return loss, ({**terms, 'loss': loss}, {}, latents)

  def prediction_losses(
    self, variables: Params, latents: jax.Array, actions: jax.Array
  ) -> Metrics:
    """Both terms of the loss.

    Args:
      variables: of the family.
      latents: `[B, T, P * D + state_dim]`.
      actions: `[B, T - 1, A]`.

    Returns:
      `teacher_forcing` and `rollout`, scalars.
    """
    size = self.num_tokens * self.encoder_grid[2]
    states = latents[..., size:]
    distance = prediction.DISTANCES[self.prediction_distance]

    def mean_distance(predicted, first):
      targets = latents[:, first : first + predicted.shape[1]]
      pair: Any = (x[..., :size] for x in (predicted, targets))
      return distance(*(self.split(x) for x in pair)).mean()

    forced, _ = self.apply_predictor(variables, latents[:, :-1], actions)
    window, rolled = latents[:, :1], [forced[:, :1]]
    for step in range(1, self.rollout_steps):
      # What was predicted, where the robot really was.
      tokens = rolled[-1][..., :size]
      seen = jnp.concatenate([tokens, states[:, step : step + 1]], axis=-1)
      window = jnp.concatenate([window, seen], axis=1)
      after, _ = self.apply_predictor(
        variables, window, actions[:, : step + 1], last_only=True
      )
      rolled.append(after)
    return {
      'teacher_forcing': mean_distance(forced, 1),
      'rollout': mean_distance(jnp.concatenate(rolled, axis=1), 1),
    }

  def cost(self, latents: jax.Array, goal: jax.Array) -> jax.Array:
    """Mean absolute distance of tokens, the energy; states do not count.

    Args:
      latents: `[..., P * D + state_dim]`.
      goal: `[..., P * D]` or longer, broadcast against `latents`.

    Returns:
      `[...]`.
    """
    size = self.num_tokens * self.encoder_grid[2]
    return jnp.abs(latents[..., :size] - goal[..., :size]).mean(-1)


def integrate_pose(state: jax.Array, action: jax.Array) -> jax.Array:
  """Where a robot is after an action, without looking.

  Positions add up, rotations multiply from the left (`dR R`), and the gripper
  stays within 0..1.

  Source: V-JEPA 2, arXiv 2506.09985, section 3.1, and its released planner.

  Args:
    state: `[..., 7]`: position, Euler angles about the fixed axes x, y, z in
      radians, gripper.
    action: `[..., 7]`, their changes.

  Returns:
    `[..., 7]`; angles in -pi..pi, that about y in -pi/2..pi/2.
  """
  position = state[..., :3] + action[..., :3]
  turned = jnp.einsum(
    '...ij,...jk->...ik', _matrix(action[..., 3:6]), _matrix(state[..., 3:6])
  )
  gripper = jnp.clip(state[..., 6:] + action[..., 6:], 0.0, 1.0)
  return jnp.concatenate([position, _angles(turned), gripper], axis=-1)


def _matrix(angles: jax.Array) -> jax.Array:
  """Rotations `Rz(c) Ry(b) Rx(a)` `[..., 3, 3]` of `[..., 3]`."""
  (sa, sb, sc), (ca, cb, cc) = (
    jnp.moveaxis(f(angles), -1, 0) for f in (jnp.sin, jnp.cos)
  )
  rows = (
    (cc * cb, cc * sb * sa - sc * ca, cc * sb * ca + sc * sa),
    (sc * cb, sc * sb * sa + cc * ca, sc * sb * ca - cc * sa),
    (-sb, cb * sa, cb * ca),
  )
  return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def _angles(matrix: jax.Array) -> jax.Array:
  """Inverts `_matrix`."""
  cos = jnp.hypot(matrix[..., 0, 0], matrix[..., 1, 0])
  return jnp.stack(
    [
      jnp.arctan2(matrix[..., 2, 1], matrix[..., 2, 2]),
      jnp.arctan2(-matrix[..., 2, 0], cos),
      jnp.arctan2(matrix[..., 1, 0], matrix[..., 0, 0]),
    ],
    axis=-1,
  )
