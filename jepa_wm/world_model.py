"""A trained JEPA as pure functions: encode, start, step, price.

`WorldModel` is the door for people who bring their own training loop, planner
or RL code. Its methods take the parameters as their first argument, so they
compose with `jit`, `vmap`, `grad` and ensembles, and they have the signatures
that `jepa_wm.planning` asks for.
"""

import dataclasses
import json
import os
import pathlib
import warnings
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from jepa_wm import families, files, interop, jepa, units
from jepa_wm.planning import constraints
from jepa_wm.types import Params, Root

FORMAT_VERSION = 1
"""Layout of an exported folder; one more when old ones cannot be read."""

SHIPPED = pathlib.Path(__file__).parent / 'checkpoints'
"""Folder of the checkpoints that come with the package."""

_WEIGHTS, _CONFIG = 'model.safetensors', 'config.json'


@dataclasses.dataclass(frozen=True)
class WorldModel:
  """A family, its parameters, and the units its actions were trained in.

  Attributes:
    family: the published system and its configuration (`jepa_wm.families`).
    params: pytree of its variables, first argument of every method below.
    action_statistics: mean and deviation that normalise raw actions; None of a
      family without actions.
    record: how it was trained, as saved with it (may be empty).
  """

  family: Any
  params: Params
  action_statistics: units.ActionStatistics | None
  record: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def action_block(self) -> int:
    """Environment steps that one latent step spans."""
    return self._acting.action_block

  @property
  def action_dim(self) -> int:
    """Size `A` of one action block: `action_block` raw actions, flattened."""
    return self._acting.action_block * self._acting.action_dim

  @property
  def image_size(self) -> int:
    """Height and width in pixels of the frames that `encode` expects."""
    return self.family.image_size

  @property
  def proprio_dim(self) -> int:
    """Numbers `S` of the body's own state that `encode` takes; 0 for none."""
    return getattr(self.family, 'proprio_dim', 0)

  @property
  def _acting(self) -> Any:
    """The family, if it has dynamics."""
    if families.has_dynamics(self.family):
      return self.family
    acting = [
      name
      for name in families.FAMILIES.names()
      if families.has_dynamics(families.FAMILIES.get(name))
    ]
    raise ValueError(
      f'The family {self.family.name!r} encodes and has no dynamics: it '
      'predicts what is hidden and takes no actions. Use encode or tokens of '
      f'it, or a model that acts, of {", ".join(acting)}.'
    )

  @property
  def _statistics(self) -> units.ActionStatistics:
    """The action statistics, which a family with dynamics has."""
    _ = self._acting
    assert self.action_statistics is not None
    return self.action_statistics

  def encode(
    self,
    params: Params,
    pixels: jax.Array,
    proprio: jax.Array | None = None,
  ) -> jax.Array:
    """Encodes frames, or clips where the family encodes clips.

    Args:
      params: the model's variables.
      pixels: uint8 `[..., height, width, 3]`, 0..255; of 'vjepa'
        `[..., T, height, width, 3]`, a latent a clip.
      proprio: `[..., S]`, the body's own state, of a family that sees it.

    Returns:
      Latents `[..., D]`.

    Raises:
      ValueError: pixels of another dtype or size.
    """
    self._check_pixels(pixels)
    if proprio is None:
      return self.family.encode(params, pixels)
    return self.family.encode(params, pixels, proprio)

  def tokens(self, params: Params, pixels: jax.Array) -> jax.Array:
    """Encodes frames or clips as tokens, where the family has such.

    Args:
      params: the model's variables.
      pixels: as for `encode`.

    Returns:
      `[..., P, D]`.

    Raises:
      ValueError: pixels of another dtype or size, or a family without tokens.
    """
    self._check_pixels(pixels)
    if not hasattr(self.family, 'tokens'):
      raise ValueError(
        f'The family {self.family.name!r} has one latent a frame and no '
        'tokens; use encode.'
      )
    return self.family.tokens(params, pixels)

  def _check_pixels(self, pixels: jax.Array) -> None:
    size = self.image_size
    if pixels.dtype != jnp.uint8:
      raise ValueError(
        f'pixels: expected uint8 in 0..255, got {pixels.dtype}; pass the '
        'frames as rendered, normalisation is part of the model.'
      )
    if pixels.ndim < 3 or pixels.shape[-3:] != (size, size, 3):
      raise ValueError(
        f'pixels: expected [..., {size}, {size}, 3], got '
        f'{list(pixels.shape)}; render or resize to the image size that the '
        'model was trained at.'
      )

  def initial_state(
    self,
    params: Params,
    pixels: jax.Array,
    actions: jax.Array | None = None,
    *,
    proprio: jax.Array | None = None,
  ) -> jepa.LatentState:
    """Starts a latent state from the frames seen so far.

    Args:
      params: the model's variables.
      pixels: uint8 `[..., T, height, width, 3]`, `T` from 1 to `history`
        frames, `action_block` environment steps apart, newest last.
      actions: `[..., T - 1, A]` normalised blocks played between them; may be
        left out for `T = 1`.
      proprio: `[..., T, S]`, as for `encode`.

    Returns:
      A state to give to `dynamics`.

    Raises:
      ValueError: more frames than `history`, or actions that do not fit them.
    """
    _ = self._acting
    latents = self.encode(params, pixels, proprio)
    return self.latent_state(params, latents, actions)

  def latent_state(
    self, params: Params, latents: jax.Array, actions: jax.Array | None = None
  ) -> jepa.LatentState:
    """Starts a latent state from the latents of the frames seen so far.

    Args:
      params: the model's variables.
      latents: `[..., T, D]`, `T` from 1 to `history`, newest last.
      actions: `[..., T - 1, A]` normalised blocks played between them; may be
        left out for `T = 1`.

    Returns:
      A state to give to `dynamics`.

    Raises:
      ValueError: more latents than `history`, or actions that do not fit them.
    """
    length = latents.shape[-2]
    if not 1 <= length <= self._acting.history:
      raise ValueError(
        f'latents: expected 1 to {self.family.history} frames (history), got '
        f'{length}.'
      )
    expected = (*latents.shape[:-2], length - 1, self.action_dim)
    if actions is None and length == 1:
      actions = jnp.zeros(expected, latents.dtype)
    if actions is None or actions.shape != expected:
      got = None if actions is None else list(actions.shape)
      raise ValueError(
        f'actions: expected {list(expected)}, one normalised block between '
        f'each two frames, got {got}.'
      )
    return self.family.initial_state(params, latents, actions)

  def root(
    self,
    params: Params,
    pixels: jax.Array,
    goal_pixels: jax.Array,
    actions: jax.Array | None = None,
    *,
    proprio: jax.Array | None = None,
    goal_proprio: jax.Array | None = None,
  ) -> Root:
    """Turns what is seen and one goal image per problem into problems.

    Args:
      params: the model's variables.
      pixels: uint8 `[B, height, width, 3]`, the frame now, or
        `[B, T, height, width, 3]`, the frames up to now (see
        `initial_state`).
      goal_pixels: uint8 `[B, height, width, 3]`.
      actions: `[B, T - 1, A]` normalised blocks played between the frames.
      proprio: `[B, S]` or `[B, T, S]`, as for `encode`.
      goal_proprio: `[B, S]`.

    Returns:
      `Root` whose goal is the goal image's latent `[B, D]`.

    Raises:
      ValueError: what `encode` and `initial_state` refuse.
    """
    _ = self._acting
    if pixels.ndim == 4:
      pixels = jnp.expand_dims(pixels, 1)
    if proprio is not None and proprio.ndim == 2:
      proprio = jnp.expand_dims(proprio, 1)
    latents, goal = self._encode_both(
      params, (pixels, proprio), (goal_pixels, goal_proprio)
    )
    return Root(self.latent_state(params, latents, actions), goal)

  def _encode_both(
    self, params: Params, seen: tuple[Any, Any], wanted: tuple[Any, Any]
  ) -> tuple[jax.Array, jax.Array]:
    """Latents `[B, T, D]` and `[B, D]` of frames and goals, with proprio.

    In one pass where they are alike: half the program to compile, and larger
    products.
    """
    self._check_pixels(seen[0])
    self._check_pixels(wanted[0])
    goals = [x if x is None else jnp.expand_dims(x, 1) for x in wanted]
    shapes = [
      [x if x is None else (x.shape[0], *x.shape[2:]) for x in pair]
      for pair in (seen, goals)
    ]
    if shapes[0] != shapes[1]:
      return self.encode(params, *seen), self.encode(params, *wanted)
    both = jax.tree.map(
      lambda *x: jnp.concatenate(x, axis=1), list(seen), goals
    )
    latents = self.encode(params, *both)
    return latents[:, :-1], latents[:, -1]

  def dynamics(
    self,
    params: Params,
    rng_key: jax.Array,
    action: jax.Array,
    state: jepa.LatentState,
  ) -> jepa.LatentState:
    """Steps `state` by one normalised action block; a `DynamicsFn`.

    The predictor sees a window that grows to `history` and then slides
    (LeWorldModel, arXiv 2603.19312, its released rollout).

    Args:
      params: the model's variables.
      rng_key: not used, the predictor is deterministic.
      action: `[..., A]`, leading dims as the state's.
      state: what `initial_state` or `dynamics` returned, leaves
        `[..., L, *]`.

    Returns:
      The next state, its newest latent last.

    Raises:
      ValueError: an action of another size.
    """
    del rng_key
    if action.shape[-1] != self.action_dim:
      raise ValueError(
        f'action: expected size {self.action_dim} ({self.action_block} raw '
        f'actions of {self.family.action_dim}), got {action.shape[-1]}.'
      )
    return self.family.step(params, state, action)

  def latent(self, state: jepa.LatentState) -> jax.Array:
    """The newest latent `[..., D]` of a state, for costs over latents."""
    return state.latents[..., -1, :]

  def cost(
    self,
    params: Params,
    state: jepa.LatentState,
    action: jax.Array,
    goal: jax.Array,
  ) -> jax.Array:
    """Distance of the newest latent to `goal`; a `CostFn`.

    That of the family where it has one (`cost`), else the squared Euclidean
    distance, the sum over `D`.

    Args:
      params: not used.
      state: latents `[..., L, D]`.
      action: not used.
      goal: `[..., D]`, broadcast against the state.

    Returns:
      `[...]`.
    """
    del params, action
    if hasattr(self.family, 'cost'):
      return self.family.cost(self.latent(state), goal)
    return jnp.sum(jnp.square(self.latent(state) - goal), axis=-1)

  def in_raw_units(
    self, constraint: constraints.ActionConstraint
  ) -> constraints.RawUnits:
    """A constraint on raw actions, as one on a planner's blocks.

    Args:
      constraint: on sequences of raw actions `[..., time, raw]`, such as
        `NormBall(0.05)` or `RateLimit(0.1)`.
    """
    return constraints.RawUnits(
      constraint,
      to_raw=self.raw_actions,
      from_raw=self.normalize_actions,
      raw_dim=self._acting.action_dim,
    )

  def normalize_actions(self, actions: jax.Array) -> jax.Array:
    """Raw actions `[..., action_block, raw]` to blocks `[..., A]`."""
    flat = actions.reshape(*actions.shape[:-2], self.action_dim)
    return self._statistics.normalize(flat)

  def raw_actions(self, actions: jax.Array) -> jax.Array:
    """Blocks `[..., A]` to raw actions `[..., action_block, raw]`."""
    raw = self._statistics.denormalize(actions)
    shape = (self.action_block, self._acting.action_dim)
    return raw.reshape(*actions.shape[:-1], *shape)

  def action_bounds(
    self, low: np.ndarray | float, high: np.ndarray | float
  ) -> constraints.ActionBounds:
    """Raw bounds, scalar or `[raw]`, as a planner's box `[A]` on a block."""
    shape = (self.action_block, self._acting.action_dim)
    return constraints.ActionBounds(
      *(
        self.normalize_actions(
          jnp.broadcast_to(jnp.asarray(bound, jnp.float32), shape)
        )
        for bound in (low, high)
      )
    )

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes `model.safetensors` and `config.json` into the folder `path`.

    The folder appears whole or not at all; one that was there is replaced.

    Raises:
      OSError: the folder cannot be written.
    """
    flat = flax.traverse_util.flatten_dict(self.params, sep='/')
    # Not ascontiguousarray, which gives a scalar an axis.
    tensors = {k: np.asarray(v, order='C') for k, v in flat.items()}
    config = {
      'format_version': FORMAT_VERSION,
      'family': families.to_config(self.family),
      'action_statistics': (
        self.action_statistics and self.action_statistics.to_dict()
      ),
      'record': self.record,
    }
    with files.folder_written_whole(path) as folder:
      # Not save_file: it makes files that nobody else may read.
      (folder / _WEIGHTS).write_bytes(safetensors.numpy.save(tensors))
      (folder / _CONFIG).write_text(json.dumps(config, indent=2) + '\n')

  @classmethod
  def from_checkpoint(cls, path: str | os.PathLike[str]) -> 'WorldModel':
    """Loads an exported folder; nothing else is needed, nothing is executed.

    Args:
      path: a folder with `model.safetensors` and `config.json`, the working
        directory of a training run (its `export` folder is read), or the name
        of a checkpoint that ships with the package (`two_room_small`).

    Raises:
      FileNotFoundError: nothing to load there.
      ValueError: a file that is cut off, of another family or layout.
    """
    folder = _find_export(files.expand(path))
    config = _read_config(folder / _CONFIG)
    family = families.from_config(config['family'])
    params = _read_weights(folder / _WEIGHTS, family)
    statistics = config['action_statistics']
    if families.has_dynamics(family):
      statistics = units.ActionStatistics.from_dict(statistics)
    return cls(family, params, statistics, config.get('record', {}))

  @classmethod
  def from_pretrained(
    cls,
    path: str | os.PathLike[str],
    *,
    action_statistics: units.ActionStatistics | None = None,
    action_block: int | None = None,
    encoder: str | None = None,
  ) -> 'WorldModel':
    """Loads weights that others published; nothing in them is executed.

    Known are LeWM, V-JEPA 1 and 2, V-JEPA 2-AC and I-JEPA (`jepa_wm.interop`).
    LeWM's release holds no action statistics: they were fitted on the dataset.
    Without them the model takes and gives actions in units of their standard
    deviation, and a warning says so. V-JEPA 2-AC's actions are as they are.

    Args:
      path: a folder with `config.json` and `weights.pt` or
        `model.safetensors`, as downloaded from the Hub; or the file of weights
        beside its config; or a released V-JEPA or I-JEPA file, which has none.
      action_statistics: of the raw actions of the dataset that the weights
        were trained on (`units.fit`).
      action_block: environment steps of one action block, where the source
        does not say; if left out, what its recipe has (LeWM: 5).
      encoder: 'target_encoder' or 'encoder', where there are two (V-JEPA,
        V-JEPA 2-AC, I-JEPA); if left out, the first.

    Raises:
      FileNotFoundError: no weights or no config there.
      ValueError: a source that is not known, weights that do not fit their
        config, a file with more than tensors in it, statistics of another
        number of actions.
    """
    family, params, record = interop.read(
      path, action_block=action_block, encoder=encoder
    )
    if not families.has_dynamics(family):
      return cls(family, params, None, record)
    raw_dim = family.action_dim
    as_they_are = units.ActionStatistics(
      np.zeros(raw_dim, np.float32), np.ones(raw_dim, np.float32)
    )
    if 'action_statistics' in record:
      if action_statistics is not None:
        raise ValueError(
          f'{path}: takes actions as they are (action_statistics: '
          f'{record["action_statistics"]}); leave action_statistics out.'
        )
      return cls(family, params, as_they_are, record)
    if action_statistics is None:
      warnings.warn(
        f'{path}: no action statistics there, so actions are taken as '
        'normalised already (mean 0, deviation 1); pass action_statistics, '
        'fitted on the dataset the weights were trained on.',
        stacklevel=2,
      )
      action_statistics = as_they_are
      record['action_statistics'] = 'unknown, taken as mean 0, deviation 1'
    elif action_statistics.mean.shape != (raw_dim,):
      raise ValueError(
        f'action_statistics: expected {raw_dim} raw actions '
        f'(action_block={family.action_block}), got '
        f'{list(action_statistics.mean.shape)}.'
      )
    return cls(family, params, action_statistics, record)


def read_family(path: str | os.PathLike[str]) -> dict[str, Any]:
  """The config of an exported model's family, as `families.to_config` has it.

  Args:
    path: what `WorldModel.from_checkpoint` takes.

  Raises:
    FileNotFoundError: nothing to load there.
    ValueError: a config that is cut off or of another layout.
  """
  folder = _find_export(files.expand(path))
  family = families.from_config(_read_config(folder / _CONFIG)['family'])
  return families.to_config(family)


def _find_export(path: pathlib.Path) -> pathlib.Path:
  """The first folder among the places `path` may mean that holds a config."""
  candidates = [path, path / 'export']
  if len(path.parts) == 1:
    candidates.append(SHIPPED / path)
  for folder in candidates:
    if (folder / _CONFIG).is_file():
      return folder
  shipped = sorted(p.parent.name for p in SHIPPED.glob(f'*/{_CONFIG}'))
  raise FileNotFoundError(
    f'checkpoint {str(path)!r}: no {_CONFIG} there or in its export/ folder; '
    'pass the working directory of a finished training run, an exported '
    f'folder, or one of those that ship: {", ".join(shipped) or "none"}.'
  )


def _read_config(path: pathlib.Path) -> dict[str, Any]:
  try:
    config = files.read_json(path)
    version = config['format_version']
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'{path}: not the config of an exported checkpoint ({error!r}); it may '
      'be cut off, export it again.'
    ) from error
  if version != FORMAT_VERSION:
    raise ValueError(
      f'{path}: written in layout {version}, this version of jepa_wm reads '
      f'layout {FORMAT_VERSION}; export the checkpoint again with this version.'
    )
  missing = {'family', 'action_statistics'} - config.keys()
  if missing:
    raise ValueError(f'{path}: {sorted(missing)} missing; export it again.')
  return config


def _read_weights(path: pathlib.Path, family: Any) -> Params:
  """Tensors of `path`, checked one by one against what `family` declares."""
  if not path.is_file():
    raise FileNotFoundError(f'{path}: missing beside its {_CONFIG}.')
  if files.is_lfs_pointer(path):
    raise files.damaged(path, '')
  try:
    tensors = safetensors.numpy.load_file(path)
  except safetensors.SafetensorError as error:
    raise ValueError(
      f'{path}: not a whole safetensors file ({error}); it may be cut off, '
      'copy or export it again.'
    ) from error
  expected = flax.traverse_util.flatten_dict(
    families.inference_shapes(family), sep='/'
  )
  wanted, got = (
    {name: list(tensor.shape) for name, tensor in held.items()}
    for held in (expected, tensors)
  )
  names = sorted(wanted.keys() | got.keys())
  differ = [name for name in names if wanted.get(name) != got.get(name)]
  if differ:
    first, more = differ[0], len(differ) - 1
    raise ValueError(
      f'{path}: {first!r} is {got.get(first, "missing")}, the family '
      f'{family.name!r} as configured has {wanted.get(first, "no such tensor")}'
      f', and {more} others differ; take weights and config of one export.'
    )
  params = {k: jnp.asarray(v) for k, v in tensors.items()}
  return flax.traverse_util.unflatten_dict(params, sep='/')
