"""Real handwritten digits that move and bounce, drawn on the device.

`digits.npz` beside this file holds the 1,797 scans that scikit-learn ships
(`sklearn/datasets/data/digits.csv.gz` of its 1.9.1 wheel, read row by row into
uint8; nothing was left out or reordered): `images` `[1797, 8, 8]`, 0..16, and
`labels` `[1797]`, 0..9.

Source of the scans: E. Alpaydin and C. Kaynak, Optical Recognition of
Handwritten Digits (its test set), UCI Machine Learning Repository, 1998,
doi 10.24432/C50P49, licence CC BY 4.0. The idea of the clips: Moving MNIST
(Srivastava et al., arXiv 1502.04681).
"""

import dataclasses
import functools
import pathlib
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields

if TYPE_CHECKING:
  import grain

_FILE = pathlib.Path(__file__).with_name('digits.npz')

SPLITS = {
  'train': (0, 1258),
  'validation': (1258, 1438),
  'held_out': (1438, 1797),
}
"""Scans of each split, first and one past the last: no scan is in two.

They are cut in the order of the file: neighbours in it are often by one writer,
so that few hands are on both sides of a cut.
"""

BACKGROUNDS = ('none', 'noise', 'texture')
"""What is behind the digits.

  'none': black;
  'noise': every colour of every pixel of every frame drawn anew;
  'texture': a smooth coloured pattern that stays for a clip.
"""

_NUM_POINTS = 8  # Side of a scan.
_NUM_TILES = 6  # Random colours along a side of a texture.
# Keys are told apart by 32 bits; nobody draws as many batches.
_NUM_BATCHES = 2**32 - 1


@functools.cache
def scans(split: str) -> tuple[np.ndarray, np.ndarray]:
  """The scanned digits of a split.

  Args:
    split: a key of `SPLITS`.

  Returns:
    float32 `[N, 8, 8]`, ink in 0..1, and int32 `[N]`, labels 0..9.

  Raises:
    ValueError: no such split.
  """
  fields.check_choice('split', split, SPLITS)
  part = slice(*SPLITS[split])
  with np.load(_FILE, allow_pickle=False) as file:
    images, labels = file['images'][part], file['labels'][part]
  return images.astype(np.float32) / 16, labels.astype(np.int32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MovingDigits:
  """How the clips look.

  Attributes:
    image_size: side of the square frames, pixels.
    num_digits: digits in a clip; where they overlap the brighter ink shows.
    digit_scale: side of a digit as a share of the frame's.
    speed: of the fastest digit, in shares of the frame's side per frame; each
      has one of its own between half of it and all of it.
    background: one of `BACKGROUNDS`.
    background_strength: brightest value of the background as a share of the
      ink's.
  """

  image_size: int = 64
  num_digits: int = 1
  digit_scale: float = 0.4375
  speed: float = 0.06
  background: str = 'none'
  background_strength: float = 0.6

  def __post_init__(self) -> None:
    fields.check_counts(self, {'image_size': 8, 'num_digits': 1})
    if not 0 < self.digit_scale < 1:
      raise ValueError(
        f'digit_scale must be between 0 and 1, got {self.digit_scale}.'
      )
    if not 0 <= self.speed <= 1:
      raise ValueError(f'speed must be in 0..1, got {self.speed}.')
    if not 0 <= self.background_strength <= 1:
      raise ValueError(
        f'background_strength must be in 0..1, got {self.background_strength}.'
      )
    fields.check_choice('background', self.background, BACKGROUNDS)

  @property
  def digit_size(self) -> float:
    """Side of a digit in pixels."""
    return self.digit_scale * self.image_size

  @property
  def state_names(self) -> tuple[str, ...]:
    """What the columns of `state` are."""
    if self.num_digits == 1:
      return ('x', 'y')
    return tuple(f'{a}{i}' for i in range(self.num_digits) for a in 'xy')


def moving_digits(
  digits: MovingDigits,
  *,
  num_frames: int,
  batch_size: int,
  seed: int,
  split: str = 'train',
  rows: np.ndarray | None = None,
) -> 'grain.DatasetIterator':
  """Endless batches of clips, drawn on the device.

  A batch is one jitted function of the seed, the split and the batch's number,
  which is all of the iterator's state (`get_state()`, `set_state(...)` as in
  `windows.cached_windows`). Digits, places, directions and speeds are uniform;
  a digit is reflected where its square meets an edge of the frame.

  Args:
    digits: how the clips look.
    num_frames: frames `T` of a clip.
    batch_size: clips `B` of a batch.
    seed: of everything random.
    split: a key of `SPLITS`.
    rows: as for `windows.cached_windows`.

  Returns:
    Iterator over dicts of device arrays: `observation`, a dict of `pixels`
    uint8 `[B, T, height, width, 3]`; `state` float32
    `[B, T, 2 * num_digits]`, the centres x, y of the digits in pixels; and
    `label` int32 `[B]`, the first digit, 0..9.

  Raises:
    ValueError: a count below one, or no such split.
  """
  import grain

  if min(num_frames, batch_size) < 1:
    raise ValueError(
      'num_frames and batch_size must be at least 1, got '
      f'{num_frames} and {batch_size}.'
    )
  images, labels = map(jnp.asarray, scans(split))
  # Splits of one seed must not move alike.
  base_key = jax.random.fold_in(jax.random.key(seed), SPLITS[split][0])

  def draw(index: int) -> dict[str, Any]:
    keys = _keys(base_key, index, batch_size)
    return _draw(
      digits,
      images,
      labels,
      keys if rows is None else keys[rows],
      num_frames=num_frames,
    )

  return iter(
    grain.MapDataset.range(_NUM_BATCHES)
    .map(draw)
    .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
  )


@jax.jit(static_argnames=('batch_size',))
def _keys(
  base_key: jax.Array, index: jax.typing.ArrayLike, batch_size: int
) -> jax.Array:
  """A key for every clip of a batch."""
  return jax.random.split(jax.random.fold_in(base_key, index), batch_size)


@jax.jit(static_argnames=('digits', 'num_frames'))
def _draw(
  digits: MovingDigits,
  images: jax.Array,
  labels: jax.Array,
  rng_keys: jax.Array,
  *,
  num_frames: int,
) -> dict[str, Any]:
  """One batch of `moving_digits`."""

  def clip(rng_key: jax.Array) -> dict[str, Any]:
    scan_key, move_key, background_key = jax.random.split(rng_key, 3)
    which = jax.random.randint(
      scan_key, (digits.num_digits,), 0, labels.shape[0]
    )
    centres = _bounce(digits, move_key, num_frames)
    ink = jnp.max(render_ink(digits, images[which], centres), axis=1)
    ink = jnp.expand_dims(ink, -1)
    behind = _background(digits, background_key, num_frames)
    pixels = jnp.round(255 * (behind * (1 - ink) + ink))
    return {
      'observation': {'pixels': pixels.astype(jnp.uint8)},
      'state': centres.reshape(num_frames, -1),
      'label': labels[which[0]],
    }

  return jax.vmap(clip)(rng_keys)


def render_ink(
  digits: MovingDigits, images: jax.Array, centres: jax.Array
) -> jax.Array:
  """Draws digits where they are, enlarged bilinearly, to fractions of a pixel.

  Args:
    digits: the sizes.
    images: `[N, 8, 8]`, ink in 0..1; beyond its edges there is none.
    centres: `[T, N, 2]`, x and y in pixels.

  Returns:
    `[T, N, height, width]`, ink in 0..1.
  """
  # Bilinear is separable: one matrix of hats for rows and one for columns.
  places = jnp.arange(digits.image_size) + 0.5
  points = jnp.arange(_NUM_POINTS)

  def hats(centre: jax.Array) -> jax.Array:
    from_centre = (places - centre) / digits.digit_size
    source = (from_centre + 0.5) * _NUM_POINTS - 0.5
    return jnp.maximum(0, 1 - jnp.abs(source[:, None] - points[None]))

  columns, rows = jnp.moveaxis(
    jax.vmap(jax.vmap(jax.vmap(hats)))(centres), 2, 0
  )
  return jnp.einsum('tnhi,nij,tnwj->tnhw', rows, images, columns)


def _bounce(
  digits: MovingDigits, rng_key: jax.Array, num_frames: int
) -> jax.Array:
  """Centres `[T, num_digits, 2]` of straight lines folded at the edges."""
  start_key, angle_key, speed_key = jax.random.split(rng_key, 3)
  count = digits.num_digits
  room = digits.image_size - digits.digit_size
  starts = jax.random.uniform(start_key, (1, count, 2), maxval=room)
  angle = jax.random.uniform(angle_key, (count,), maxval=2 * jnp.pi)
  speed = jax.random.uniform(speed_key, (count, 1), minval=0.5, maxval=1.0)
  direction = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
  velocity = digits.speed * digits.image_size * speed * direction
  times = jnp.arange(num_frames).reshape(-1, 1, 1)
  straight = starts + times * velocity[None]
  # A zigzag of period 2 * room, which is the reflected path at any time.
  folded = room - jnp.abs(straight % (2 * room) - room)
  return folded + digits.digit_size / 2


def _background(
  digits: MovingDigits, rng_key: jax.Array, num_frames: int
) -> jax.Array:
  """Brightness in 0..1, broadcasts against `[T, height, width, 3]`."""
  size = digits.image_size
  if digits.background == 'none':
    return jnp.zeros((1, 1, 1, 3))
  if digits.background == 'noise':
    drawn = jax.random.uniform(rng_key, (num_frames, size, size, 3))
  else:
    tiles = jax.random.uniform(rng_key, (1, _NUM_TILES, _NUM_TILES, 3))
    drawn = jax.image.resize(tiles, (1, size, size, 3), 'cubic')
    drawn = jnp.clip(drawn, 0, 1)
  return digits.background_strength * drawn
