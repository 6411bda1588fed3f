"""Predictions of every window of a batch, rolled on from themselves."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def window_view(
  sequence: jax.Array, start: int, shape: tuple[int, int]
) -> jax.Array:
  """Every run of consecutive steps, as a window of its own.

  Args:
    sequence: `[B, T, X]`.
    start: step at which the first window begins.
    shape: number of windows `W` and their length `L`.

  Returns:
    `[B, W, L, X]`; window `w` holds the steps from `start + w` on.
  """
  count, length = shape
  # Slices, not a gather: their gradient is a sum of slices too.
  return jnp.stack(
    [sequence[:, start + i : start + i + count] for i in range(length)], axis=2
  )


def rollout_windows(
  predict_fn: Callable[[jax.Array, jax.Array], jax.Array],
  latents: jax.Array,
  actions: jax.Array,
  *,
  history: int,
  num_steps: int,
  true_share: float = 0.0,
  rng_key: jax.Array | None = None,
) -> list[jax.Array]:
  """Predicts every window of latents, then on from the predictions.

  Step 1 sees the windows `z_w .. z_w+h-1` with their actions, and its token
  `i` estimates `z_w+i+1`. Step `j` sees what step `j - 1` estimated, which is
  the window shifted by one, with the actions shifted likewise, and estimates
  `z_w+i+j`: all tokens at once, so that `num_steps` calls cost `num_steps`
  forwards whatever the length. Windows whose last target would lie beyond the
  last frame drop out, one more at every step. Gradients run through all steps.

  With scheduled sampling every input of a step after the first is the true
  latent with probability `true_share`, drawn for each token. Its paper lowers
  the share while training; here it stays.

  Args:
    predict_fn: latents `[B, W, h, D]` and actions `[B, W, h, A]` to
      `[B, W, h, D]`.
    latents: `[B, T, D]`.
    actions: `[B, T - 1, A]`.
    history: length `h` of a window.
    num_steps: steps, at most `T - h`.
    true_share: chance of a true latent among the inputs of later steps.
    rng_key: draws them, consumed; not needed at a share of 0.

  Returns:
    For step `j` from 1 the estimates `[B, T - h - j + 1, h, D]`; their targets
    are `window_view(latents, j, (T - h - j + 1, h))`.

  Source: scheduled sampling, arXiv 1506.03099.
  """
  rolled: list[jax.Array] = []
  for step in range(num_steps):
    count = latents.shape[1] - history - step
    if step == 0:
      inputs = window_view(latents, 0, (count, history))
    else:
      inputs = rolled[-1][:, :count]
      if true_share:
        truth = window_view(latents, step, (count, history))
        is_true = jax.random.bernoulli(
          jax.random.fold_in(rng_key, step),  # type: ignore[arg-type]
          true_share,
          (*truth.shape[:-1], 1),
        )
        inputs = jnp.where(is_true, truth, inputs)
    rolled.append(
      predict_fn(inputs, window_view(actions, step, (count, history)))
    )
  return rolled


def slide_windows(
  predict_fn: Callable[[jax.Array, jax.Array], jax.Array],
  latents: jax.Array,
  actions: jax.Array,
  *,
  history: int,
  num_steps: int,
) -> list[jax.Array]:
  """Predicts every window of latents, then on as a plan does.

  Step 1 is that of `rollout_windows`. From then on what the newest token of a
  window estimates is the newest of the next window, whose others move up: the
  past is what was seen for as long as the window holds any of it. Estimates of
  the earlier tokens, which know less of the past, go into nothing.

  Args:
    predict_fn: latents `[B, W, h, D]` and actions `[B, W, h, A]` to
      `[B, W, h, D]`.
    latents: `[B, T, D]`.
    actions: `[B, T - 1, A]`.
    history: length `h` of a window.
    num_steps: steps, at most `T - h`.

  Returns:
    For step 1 the estimates `[B, T - h, h, D]`, of all tokens; for step `j`
    from 2 those of the newest, `[B, T - h - j + 1, 1, D]`, whose targets are
    `window_view(latents, h + j - 1, (T - h - j + 1, 1))`.
  """
  window = window_view(latents, 0, (latents.shape[1] - history, history))
  rolled: list[jax.Array] = []
  for step in range(num_steps):
    count = latents.shape[1] - history - step
    window = window[:, :count]
    found = predict_fn(window, window_view(actions, step, (count, history)))
    rolled.append(found[:, :, -1:] if step else found)
    window = jnp.concatenate([window[:, :, 1:], found[:, :, -1:]], axis=2)
  return rolled
