"""What acts: latent and goal to a distribution of action blocks in a box."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import layers, mlp

_LOG_STD = (-5.0, 2.0)  # OGBench's range.


class Actor(layers.Module):
  """Latent and goal to the mean and deviation of the next action block.

  The mean is squashed into the box by tanh.

  Attributes:
    action_low: lower bounds `[A]`, normalised.
    action_high: upper bounds `[A]`.
    width: see `mlp.MLP`, as `depth`.
    depth: hidden layers.
    std: deviation, as a share of half the box; 0 learns one for every input.
  """

  action_low: tuple[float, ...]
  action_high: tuple[float, ...]
  width: int = 256
  depth: int = 3
  std: float = 0.3

  @nn.compact
  def __call__(
    self, latents: jax.Array, goals: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Says what to do at latents on the way to goals, `[..., D]` each.

    Returns:
      Mean and deviation, float32 `[..., A]`, normalised.
    """
    low, high = jnp.asarray(self.action_low), jnp.asarray(self.action_high)
    features = low.size if self.std else 2 * low.size
    network = mlp.MLP(
      features, self.width, self.depth, name='mlp', **self.dtypes
    )
    outputs = network(latents, goals)
    shape = (1,) * (outputs.ndim - 1) + (-1,)
    middle = ((high + low) / 2.0).reshape(shape)
    half = ((high - low) / 2.0).reshape(shape)
    mean = middle + half * jnp.tanh(outputs[..., : low.size])
    if self.std:
      return mean, jnp.broadcast_to(self.std * half, mean.shape)
    log_std = jnp.clip(outputs[..., low.size :], *_LOG_STD)
    return mean, half * jnp.exp(log_std)
