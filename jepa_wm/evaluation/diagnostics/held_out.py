"""What a run says of its model: errors, collapse and probes, held out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import families, sharding
from jepa_wm.evaluation.diagnostics import (
  collapse,
  probing,
)

Record = Mapping[str, Any]
EvalStepFn = Callable[
  [Any, Mapping[str, Any]], tuple[dict[str, jax.Array], jax.Array]
]
EvaluateFn = Callable[[Any, Sequence[Record]], dict[str, float | str]]

_DEVIATION = 'collapse/latent_std_mean'


def make_evaluator(
  model: Any,
  mesh: jax.sharding.Mesh,
  probe_batches: Sequence[Mapping[str, Any]],
  held_out_batches: Sequence[Mapping[str, Any]],
) -> EvaluateFn:
  """What a run reports beside its loss, all of it on held-out windows.

  Args:
    model: a `WorldModel`; the family and its action statistics.
    mesh: where to compute.
    probe_batches: training windows, which the linear probe is fitted on.
    held_out_batches: windows that everything is measured on.

  Returns:
    Variables, and what the run has logged so far, to what `make_eval_step`
    measures, as `held_out/...`, the collapse telemetry with its verdict and,
    where the windows hold a true state or a label, how well it can be read off
    the latents.
  """
  eval_step = make_eval_step(model)

  def evaluate_fn(variables, records):
    look_at = lambda batches: _look_at(eval_step, variables, batches, mesh)
    held_out, latents, answers = look_at(held_out_batches)
    groups = {'held_out': held_out, 'collapse': collapse.telemetry(latents)}
    if answers:
      _, seen, known = look_at(probe_batches)
      groups['probe'] = _probe(seen, known, latents, answers)
    verdict = collapse.judge(
      groups['collapse'],
      largest=max((r.get(_DEVIATION) or 0.0 for r in records), default=None),
      prediction_error=held_out.get('prediction_error'),
    )
    return {
      f'{group}/{name}': float(value)
      for group, values in groups.items()
      for name, value in values.items()
    } | {f'collapse/{k}': v for k, v in verdict._asdict().items()}

  return evaluate_fn


def _look_at(
  eval_step: EvalStepFn,
  variables: Any,
  batches: Sequence[Mapping[str, Any]],
  mesh: jax.sharding.Mesh,
) -> tuple[dict[str, Any], Any, dict[str, Any]]:
  """Mean metrics, latents `[M, D]`, and what the windows hold of the truth.

  That is `state` `[M, S]` and `label` `[M]`, as far as they have it.
  """
  metrics, latents = zip(
    *(eval_step(variables, sharding.shard_batch(b, mesh)) for b in batches)
  )
  metrics, latents = jax.device_get((metrics, latents))
  mean = {k: np.mean([m[k] for m in metrics]) for k in metrics[0]}
  rows = lambda arrays: np.concatenate(
    [np.asarray(a).reshape(-1, np.shape(a)[-1]) for a in arrays]
  )
  answers = {}
  if np.shape(batches[0].get('state', ()))[-1:] > (0,):
    states = [np.asarray(batch['state']) for batch in batches]
    if np.ndim(latents[0]) == 2:
      # A clip has one latent: where things were on the whole.
      states = [x.mean(1) for x in states]
    answers['state'] = rows(states)
  if 'label' in batches[0] and len(rows(latents)) == sum(
    len(batch['label']) for batch in batches
  ):
    labels = np.concatenate([batch['label'] for batch in batches])
    answers['label'] = np.asarray(labels)
  return mean, rows(latents), answers


def _probe(
  seen: Any, known: Mapping[str, Any], latents: Any, answers: Mapping[str, Any]
) -> dict[str, Any]:
  """How well linear probes, fitted on training windows, read held-out ones."""
  scores: dict[str, Any] = {}
  if 'state' in answers:
    probe = probing.fit(seen, known['state'])
    scores |= probing.score(probe, latents, answers['state'])
  if 'label' in answers:
    one_hot = np.eye(known['label'].max() + 1)[known['label']]
    guess = probing.fit(seen, one_hot)(latents).argmax(-1)
    scores['label_accuracy'] = np.mean(guess == answers['label'])
  return scores


def make_eval_step(model: Any) -> EvalStepFn:
  """Compiles a look at held-out windows, as a planner would use the model.

  Args:
    model: a `WorldModel`: the family and its action statistics; its parameters
      are not used.

  Returns:
    `(variables, batch) -> (metrics, latents)`, jitted, evaluation mode (no
    dropout, running batch statistics). Both metrics are mean squared errors
    per latent dimension: `prediction_error` of one step after true latents,
    `rollout_error` of the last step after a rollout from the first frame
    alone. `latents` `[B, T, D]` are those of the batch, for telemetry. A
    family without dynamics says by its `evaluate` what its metrics are.
  """
  if not families.has_dynamics(model.family):
    return jax.jit(model.family.evaluate)
  statistics = model.action_statistics
  assert statistics is not None

  def eval_step(variables, batch):
    actions = statistics.normalize(batch['action'])
    proprio = None
    if getattr(model.family, 'proprio_dim', 0):
      proprio = batch['observation']['proprio']
    latents = model.encode(variables, batch['observation']['pixels'], proprio)
    history = model.family.history
    # Never drawn from: evaluation is deterministic.
    rng_key = jax.random.key(0)
    rolled = model.latent_state(variables, latents[:, :1])
    errors = []
    for t in range(1, latents.shape[1]):
      first = max(0, t - history)
      seen = model.latent_state(
        variables, latents[:, first:t], actions[:, first : t - 1]
      )
      predicted, rolled = (
        model.dynamics(variables, rng_key, actions[:, t - 1], state)
        for state in (seen, rolled)
      )
      errors.append(predicted.latents[:, -1] - latents[:, t])
    rollout_error = rolled.latents[:, -1] - latents[:, -1]
    metrics = {
      'prediction_error': jnp.mean(jnp.square(jnp.stack(errors))),
      'rollout_error': jnp.mean(jnp.square(rollout_error)),
    }
    return metrics, latents

  return jax.jit(eval_step)
