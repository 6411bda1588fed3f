"""DINO-WM: predict a frozen encoder's patch tokens, plan among them."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.models import jepa, model, modules, settings, targets
from jepa_wm.networks import concatenated, embeddings, predictors, tokens
from jepa_wm.objectives import prediction
from jepa_wm.objectives import terms as terms_lib
from jepa_wm.types import ActionSpec


@model.MODELS.register
@dataclasses.dataclass(frozen=True)
class DinoWM(settings.ActingSettings):
  """The settings of DINO-WM; the defaults are the published model.

  The predictor sees a window of frames, the patch tokens of each, and beside
  every token an embedding of the action taken there and, with
  `encoder.proprio_dim`, one of the body's own state, which it predicts as well.
  The loss is the mean squared error to the tokens of the next frames, which
  have no gradient; every run of `predictor.history` frames of a batch is a
  window, and with `terms.prediction.steps` predictions are inputs of the next
  step. A latent is a frame's tokens in a row.

  Source: DINO-WM, arXiv 2411.04983, and its released code.

  Attributes:
    action_dim: see `settings.ActingSettings`, as all that is not here.
    encoder: frozen; tokens of any encoder.
    proprio: how the state is embedded, where `encoder.proprio_dim` is not 0.
  """

  name: ClassVar[str] = 'dino_wm'

  action_dim: int = 2
  action_block: int = 5
  encoder: tokens.TokensConfig = fields.one_of(
    tokens.TOKENS, tokens.TokensConfig()
  )
  proprio: embeddings.ProprioConfig = fields.one_of(
    embeddings.EMBEDDINGS, embeddings.ProprioConfig()
  )
  predictor: predictors.PredictorConfig = fields.one_of(
    predictors.PREDICTORS, concatenated.ConcatenatedConfig()
  )
  terms: jepa.Terms = fields.some_of(
    terms_lib.TERMS, (prediction.NextLatent(),)
  )
  target: targets.Target = fields.one_of(targets.TARGETS, targets.Frozen())
  dtype: str = 'float32'

  def __post_init__(self) -> None:
    if not self.encoder.proprio_dim and self.proprio != DinoWM.proprio:
      raise ValueError(
        f'proprio={self.proprio} would do nothing: set encoder.proprio_dim to '
        "the size of the body's own state, or leave proprio out."
      )
    super().__post_init__()

  def build(self) -> jepa.Jepa:
    """Fills the five slots."""
    dtype = jnp.dtype(self.dtype)
    encoder = self.encoder
    token_size, embedding = encoder.token_features, None
    if encoder.proprio_dim:
      token_size += self.proprio.features
      embedding = self.proprio.build(
        encoder.num_tokens, encoder.proprio_dim, dtype
      )
    return jepa.Jepa(
      config=self,
      encoder=encoder,
      networks=modules.Networks(
        encoder=encoder.build(dtype),
        embedding=embedding,
        predictor=self.predictor.build(encoder.grid, dtype),
      ),
      latent_dim=encoder.num_tokens * token_size,
      feature_dim=encoder.features,
      action_spec=ActionSpec(self.action_dim, self.action_block),
      terms=self.terms,
      target=self.target,
      token_grid=encoder.grid,
      distance_fn=TokenDistance(
        encoder.num_tokens, encoder.token_features, self.proprio.weight
      ),
    )


@dataclasses.dataclass(frozen=True)
class TokenDistance:
  """Mean squared distance of tokens, and of the state's embedding.

  Source: DINO-WM's released planning objective, `alpha` its proprio weight.

  Attributes:
    num_tokens: tokens `P` of a latent.
    features: of a token, those of the embedding apart.
    proprio_weight: of the embedding.
  """

  num_tokens: int
  features: int
  proprio_weight: float

  def __call__(self, latents: jax.Array, goal: jax.Array) -> jax.Array:
    """Latents and goals `[..., P * F]`, broadcast, to `[...]`."""
    squares = jnp.square(self._split(latents) - self._split(goal))
    cost = squares[..., : self.features].mean((-2, -1))
    embedding = squares[..., self.features :]
    if embedding.shape[-1]:
      cost = cost + self.proprio_weight * embedding.mean((-2, -1))
    return cost

  def _split(self, latents: jax.Array) -> jax.Array:
    return latents.reshape(*latents.shape[:-1], self.num_tokens, -1)
