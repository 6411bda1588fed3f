"""What I-JEPA and V-JEPA are: a model that predicts what a mask hides."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields
from jepa_wm.models import masked_tokens, masked_wanted, model, targets
from jepa_wm.networks import masked_predictor, video_vit
from jepa_wm.objectives import mask_buckets, mask_settings
from jepa_wm.objectives import terms as terms_lib
from jepa_wm.types import Observation, Variables

ENCODERS = ('target_encoder', 'encoder')
"""The two encoders of a trained model: the moving average, and what it follows.

V-JEPA's evaluations use the average, its torch.hub models the other.
"""


@dataclasses.dataclass(frozen=True)
class Masked(model.Built):
  """Predicts, in latent space, the tokens that a mask hides.

  The encoder sees the tokens of a context, its moving average all of them; the
  predictor is told where the hidden ones are, and its tokens are compared with
  those of the average, each normalised over its features (no affine, 1e-5).
  Ablations want raw features, or pixels, or hide them from the average, too.
  Without actions there are no dynamics: such a model encodes.

  Source: I-JEPA (arXiv 2301.08243), V-JEPA (arXiv 2404.08471), V-JEPA 2 (arXiv
  2506.09985) and their released code, where that differs from the papers.

  Attributes:
    config: the settings that the model was built from.
    encoder: of clips, or of images as clips of one frame.
    predictor: settings of the predictor.
    masks: what is hidden.
    terms: of the loss, `hidden_tokens` first; regularisers see as latents the
      context's tokens, averaged.
    target: the moving average, or `masked_wanted.Pixels`.
    wanted: what is to be predicted of the target.
    dtype: of the networks' computation.
    stride: steps of the recording from one frame of a clip to the next.
    inference_layers: depths whose tokens `encode` gives, evenly spread and the
      last among them, one depth after the other; all after the last LayerNorm
      (V-JEPA 2, Table 17, has 4). Their mean is still that of the last.
    inference_encoder: one of `ENCODERS`, which `encode` uses; without a moving
      average 'encoder'.
    is_of_images: whether a frame is encoded, and not a clip.
  """

  config: Any
  encoder: video_vit.VideoViTConfig
  predictor: masked_predictor.MaskedPredictorConfig
  masks: mask_settings.MaskSettings
  terms: tuple[terms_lib.Term, ...]
  target: targets.Target
  wanted: masked_wanted.Wanted
  dtype: Any
  stride: int
  inference_layers: int = 1
  inference_encoder: str = ENCODERS[0]
  is_of_images: bool = False

  def __post_init__(self) -> None:
    """Checks that the slots fit each other.

    Raises:
      ValueError: they do not, or a mask hides everything; the message names
        the one to change.
    """
    names = [term.name for term in self.terms]
    if names[:1] != ['hidden_tokens']:
      raise ValueError(
        f"terms: the first must be 'hidden_tokens', got {names}."
      )
    if self.target.name not in ('ema', 'pixels'):
      raise ValueError(
        f"target must be 'ema' or 'pixels', got {self.target.name!r}: what the "
        'encoder makes itself would become the same for every token.'
      )
    if self.wanted.of_pixels and self.inference_encoder != 'encoder':
      raise ValueError(
        "target.name='pixels' makes no moving average, which inference_encoder "
        "is to be: set inference_encoder='encoder'."
      )
    if self.encoder.depth % self.inference_layers:
      raise ValueError(
        f'encoder.depth={self.encoder.depth} must be a multiple of '
        f'inference_layers={self.inference_layers}.'
      )
    fields.check_choice('inference_encoder', self.inference_encoder, ENCODERS)
    # A mask that can hide everything is refused here, before any training.
    kinds, count = self.masks.specs(self.grid), self.predictor.num_mask_tokens
    if self.predictor.mask_token == 'per_kind' and count < len(kinds):
      raise ValueError(
        f'predictor.num_mask_tokens={count} are too few for {len(kinds)} kinds '
        "of mask; take more, or predictor.mask_token='shared'."
      )
    self.predictor.build(self.encoder, 1, self.dtype)

  @property
  def grid(self) -> video_vit.Grid:
    """Tokens of a clip in time, height and width."""
    return self.encoder.grid

  @property
  def acting(self) -> None:
    """None: no actions move it."""
    return None

  @property
  def latent_dim(self) -> int:
    """Size `D` of a latent: that of a token."""
    return self.encoder.width

  @property
  def token_grid(self) -> tuple[int, ...]:
    """See `model.Encodes`."""
    return self.grid[1:] if self.is_of_images else self.grid

  @property
  def clip_length(self) -> int | None:
    """See `model.Encodes`."""
    return None if self.is_of_images else self.encoder.num_frames

  @property
  def num_frames(self) -> int:
    """See `model.Learns`."""
    return self.encoder.num_frames

  @property
  def is_frozen(self) -> bool:
    """False: the encoder is what is trained."""
    return False

  def fitted(self, frozen: Any, observation: Observation) -> Any:
    """See `model.Learns`: nothing is frozen."""
    del observation
    return frozen

  def features(
    self, variables: Variables, observation: Observation
  ) -> jax.Array:
    """See `model.Learns`: the latents."""
    return self.encode(variables, observation)

  def init(self, rng_key: jax.Array) -> Variables:
    """See `model.Learns`; `params` of `encoder` and `predictor`."""
    encoder_key, predictor_key = jax.random.split(rng_key)
    ids = jnp.zeros((1, 1), jnp.int32)
    size = self.encoder.image_size
    pixels = jnp.zeros((1, self.num_frames, size, size, 3))
    tokens = jnp.zeros((1, 1, self.latent_dim))
    encoder, predictor = self._encoder(), self._predictor()
    params = {
      'encoder': encoder.init(encoder_key, pixels, ids)['params'],
      'predictor': predictor.init(predictor_key, tokens, ids, ids)['params'],
    }
    return self.target.split({'params': params, 'batch_stats': {}})

  def draw(
    self, rng: np.random.Generator, batch_size: int
  ) -> Mapping[str, Any]:
    """See `model.Learns`.

    Returns:
      `masks`: for every kind of mask its ids, in the shapes of one of
      `mask_settings.buckets`.
    """
    return {'masks': mask_settings.draw(self.masks, self.grid, rng, batch_size)}

  def encode(
    self,
    variables: Variables,
    observation: Observation,
    *,
    tokens: bool = False,
  ) -> jax.Array:
    """Encodes clips, or images, by their tokens or the mean of them.

    Args:
      variables: as `for_inference` gives them.
      observation: `pixels` uint8 `[..., T, height, width, 3]`, `T` a multiple
        of `encoder.tubelet_size`; of images without `T`.
      tokens: whether tokens are asked for.

    Returns:
      float32 `[..., D]`, or tokens `[..., P, D]` after the encoder's last
      LayerNorm, token `(t * H + h) * W + w`; of `inference_layers` depths
      `[..., inference_layers * P, D]`.

    Raises:
      ValueError: pixels of another size or dtype, or variables without the
        encoder that `inference_encoder` names.
    """
    if self.is_of_images:
      observation = {
        name: jnp.expand_dims(x, -4) if x.ndim > 2 else x
        for name, x in observation.items()
      }
    pixels = self.encoder.inputs(observation)
    encoder_params = variables['params'].get(self.inference_encoder)
    if encoder_params is None:
      raise ValueError(
        f'The variables hold {sorted(variables["params"])} and no '
        f'{self.inference_encoder!r}; give those of for_inference, or set '
        "inference_encoder='encoder'."
      )
    encoded, outputs = self._encoder().apply({'params': encoder_params}, pixels)
    if not tokens:
      return jnp.mean(encoded.astype(jnp.float32), axis=-2)
    step = self.encoder.depth // self.inference_layers
    depths = [
      masked_tokens.last_norm(
        encoder_params, outputs[f'block_{step * layer - 1}'], self._encoder()
      )
      for layer in range(1, self.inference_layers)
    ]
    return jnp.concatenate([*depths, encoded], axis=-2).astype(jnp.float32)

  def predict(
    self,
    variables: Variables,
    context: jax.Array,
    context_ids: jax.Array,
    target_ids: jax.Array,
    *,
    mask_index: int = 1,
  ) -> jax.Array:
    """Predicts tokens of a clip from others of it.

    Args:
      variables: of the model.
      context: `[..., Kc, D]`, encoded by the encoder alone.
      context_ids: integers `[..., Kc]`.
      target_ids: integers `[..., Kt]`.
      mask_index: which mask token stands at the places asked about; 1 is what
        V-JEPA 2's evaluations use.

    Returns:
      float32 `[..., Kt, wanted.size]`: `num_levels * D`, or pixels.
    """
    predicted, _ = self._predictor().apply(
      {'params': variables['params']['predictor']},
      context,
      context_ids,
      target_ids,
      mask_index=mask_index,
    )
    return predicted.astype(jnp.float32)

  def losses(
    self, variables: Variables, batch: model.Batch, rng_key: jax.Array
  ) -> model.Losses:
    """See `model.Learns`; a batch also holds `masks`, as `draw` gives them.

    The latents are `[B, kinds, D]`, the context's tokens averaged.
    """
    look, price = self.parts()
    return price(variables, look(variables, batch, rng_key), batch, rng_key)

  def parts(self) -> model.Parts:
    """See `model.Learns`: all networks, and the terms of the loss."""
    return model.Parts(self._look, self._price)

  def _look(
    self, variables: Variables, batch: model.Batch, rng_key: jax.Array
  ) -> list[masked_tokens.Seen]:
    """What the networks make of clips, for every kind of mask."""
    del rng_key
    pixels = self._pixels(batch)
    wanted = self.wanted
    masked_tokens.check(variables, batch, has_target=not wanted.of_pixels)
    everywhere = wanted.everywhere(variables, pixels)
    found = []
    for kind, masks in enumerate(batch['masks']):
      valid, target_valid = masked_tokens.valid(masks, self._is_padded)
      context, _ = self._encoder().apply(
        {'params': variables['params']['encoder']},
        pixels,
        masks.context_ids,
        valid,
      )
      predicted, at_context = self._predict(
        variables['params']['predictor'], context, masks, kind
      )
      hidden = wanted.at(
        everywhere, variables, pixels, masks.target_ids, target_valid
      )
      shown = None
      if everywhere is not None:
        shown = mask_buckets.take(everywhere, masks.context_ids)
      pooled = masked_tokens.pool(context, valid)
      found.append(
        masked_tokens.Seen(predicted, hidden, at_context, shown, pooled)
      )
    return found

  def _price(
    self,
    variables: Variables,
    seen: list[masked_tokens.Seen],
    batch: model.Batch,
    rng_key: jax.Array,
  ) -> model.Losses:
    """What that costs."""
    del variables
    latents, outcome = masked_tokens.outcome(
      seen, batch['masks'], self.grid, self._is_padded
    )
    priced = terms_lib.price(self.terms, outcome, rng_key)
    return model.Losses.of(priced, {}, latents)

  def evaluate(
    self, variables: Variables, batch: model.Batch
  ) -> tuple[dict[str, jax.Array], jax.Array]:
    """A look at held-out clips.

    Args:
      variables: as `for_inference` gives them.
      batch: as for `losses`.

    Returns:
      The loss and what belongs to it, and the latents of `encode`, `[B, D]`
      or, of images, `[B, T, D]`.
    """
    params = dict(variables['params'])
    target = {'params': {'encoder': params.pop('target_encoder', None)}}
    # The same directions of a regulariser every time.
    losses = self.losses(
      {**variables, 'params': params, 'target': target},
      batch,
      jax.random.key(0),
    )
    return losses.metrics, self.encode(variables, batch['observation'])

  def for_inference(self, variables: Variables) -> Variables:
    """See `model.Learns`: a moving average as well, as `target_encoder`."""
    params = dict(variables['params'])
    if 'target' in variables:
      params['target_encoder'] = variables['target']['params']['encoder']
    return {'params': params, 'batch_stats': {}}

  @property
  def _is_padded(self) -> bool:
    return self.masks.truncate == 'none'

  def _encoder(self) -> video_vit.VideoViT:
    return self.encoder.build(self.dtype)

  def _predictor(self) -> masked_predictor.MaskedPredictor:
    return self.predictor.build(self.encoder, self.wanted.size, self.dtype)

  def _pixels(self, batch: model.Batch) -> jax.Array:
    """Normalised pixels `[B, T, height, width, 3]` of a training batch."""
    pixels = self.encoder.inputs(batch['observation'])
    if pixels.ndim != 5 or pixels.shape[1] != self.num_frames:
      raise ValueError(
        'pixels must be [B, T, height, width, 3] with T equal to '
        f'encoder.num_frames={self.num_frames}, got shape {pixels.shape}.'
      )
    return pixels

  def _predict(
    self,
    predictor_params: Any,
    context: jax.Array,
    masks: mask_buckets.Masks,
    kind: int,
  ) -> tuple[jax.Array, jax.Array]:
    """Predictions at `target_ids` and at the context's own tokens."""
    context_ids = jnp.asarray(masks.context_ids)
    valid, target_ids = jnp.asarray(masks.context_valid), masks.target_ids
    if target_ids.ndim == 3:
      # Targets predicted each on its own: the context goes with every one.
      count = target_ids.shape[1]
      context, context_ids, valid = (
        jnp.broadcast_to(x[:, None], (len(x), count, *x.shape[1:]))
        for x in (context, context_ids, valid)
      )
    predicted, outputs = self._predictor().apply(
      {'params': predictor_params},
      context,
      context_ids,
      target_ids,
      mask_index=self.predictor.token_of(kind),
      context_valid=valid if self._is_padded else None,
      target_valid=masks.target_valid if self._is_padded else None,
    )
    at_context = outputs['context']
    if target_ids.ndim == 3:
      at_context = at_context.mean(1)
    return predicted.astype(jnp.float32), at_context.astype(jnp.float32)
