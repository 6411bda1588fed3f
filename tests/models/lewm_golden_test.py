"""LeWM against the published implementation, number by number."""

import re

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from golden_files import close

from jepa_wm.interop import lewm
from jepa_wm.models import modules
from jepa_wm.networks import action_encoders, causal, projectors, vit
from jepa_wm.objectives import prediction, rolling, sigreg


def images(pixels):
  return jnp.asarray(np.moveaxis(pixels, -3, -1))


@pytest.fixture(scope='module', autouse=True)
def highest_precision():
  with jax.default_matmul_precision('highest'):
    yield


@pytest.fixture(scope='module')
def golden():
  return golden_files.load('lewm_tiny')


@pytest.fixture(scope='module')
def model(golden):
  config = golden[1]['config']
  projector = {
    'features': config['embed_dim'],
    'hidden_dim': config['projector_hidden'],
  }
  return modules.Networks(
    encoder=vit.ViT(
      width=config['embed_dim'],
      depth=config['vit_layers'],
      num_heads=config['vit_heads'],
      mlp_dim=config['vit_mlp'],
      patch_size=config['patch_size'],
      image_size=config['image_size'],
    ),
    projector=projectors.Projector(**projector),
    action_encoder=action_encoders.ActionEncoder(
      features=config['embed_dim'],
      smoothed_dim=config['embedder_smoothed_dim'],
      hidden_dim=config['embedder_mlp_scale'] * config['embed_dim'],
    ),
    predictor=causal.CausalPredictor(
      width=config['embed_dim'],
      history=config['history_size'],
      depth=config['predictor_depth'],
      num_heads=config['predictor_heads'],
      head_dim=config['predictor_dim_head'],
      mlp_dim=config['predictor_mlp'],
      dropout=config['dropout'],
    ),
    prediction_projector=projectors.Projector(**projector),
  )


@pytest.fixture(scope='module')
def variables(golden):
  return lewm.from_source(golden_files.state_dict(golden[0]))


@pytest.fixture(scope='module')
def predict(model, variables):
  return jax.jit(
    lambda *window: model.apply(variables, *window, method='predict')
  )


def test_every_published_tensor_has_its_place(golden, model, variables):
  data, meta = golden
  history = meta['config']['history_size']
  fresh = jax.eval_shape(
    model.init,
    jax.random.key(0),
    images(data['pixels'])[:, :history],
    data['actions'][:, :history],
  )
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, fresh)


def test_encoder(golden, model, variables):
  data, _ = golden

  @jax.jit
  def run(pixels):
    features, intermediates = model.apply(
      variables, pixels, method=lambda model, x: model.encoder(x)
    )
    return (
      features,
      intermediates['tokens'],
      model.apply(variables, pixels, method='encode'),
    )

  cls, tokens, latents = run(images(data['pixels']))
  close(tokens[0, 0], data['eval/vit_tokens_img0'], 1e-5)
  close(cls, data['eval/cls'], 1e-5)
  close(latents, data['eval/emb'], 1e-5)
  cls, _, latents = run(images(data['interp/pixels']))
  close(cls, data['interp/cls'], 1e-5)
  close(latents, data['interp/emb'], 1e-5)


def test_predictor(golden, model, variables, predict):
  data, meta = golden
  history = meta['config']['history_size']
  actions = jnp.asarray(data['actions'])
  conditions = jax.jit(
    lambda x: model.apply(
      variables, x, method=lambda model, x: model.action_encoder(x)
    )
  )(actions)
  close(conditions, data['eval/act_emb'], 1e-5)

  @jax.jit
  def raw(latents):
    return model.apply(
      variables,
      latents,
      conditions[:, :history],
      method=lambda model, *window: model.predictor(*window)[0],
    )

  latents = jnp.asarray(data['eval/emb'])
  close(raw(latents[:, :history]), data['eval/predictor_raw'], 1e-5)
  close(raw(jnp.asarray(data['small/emb'])), data['small/predictor_raw'], 1e-5)
  pred = predict(latents[:, :history], actions[:, :history])
  close(pred, data['eval/pred'], 1e-5)
  pred = predict(latents[:, :1], actions[:, :1])
  close(pred, data['eval/pred_1frame'], 1e-5)


@pytest.mark.slow
def test_rollout_and_cost(golden, model, variables, predict):
  data, meta = golden
  history = meta['config']['history_size']
  candidates = data['candidates']

  def roll(num_frames):
    """Appends predictions, the window growing to `history`, then sliding."""
    latents = np.asarray(data['eval/emb'])[:, None, :num_frames]
    latents = np.tile(latents, (1, candidates.shape[1], 1, 1))
    while latents.shape[2] <= candidates.shape[2]:
      end = latents.shape[2]
      start = max(0, end - history)
      pred = predict(latents[:, :, start:end], candidates[:, :, start:end])
      latents = np.concatenate([latents, pred[:, :, -1:]], axis=2)
    return latents

  # Begun with as many frames as the name says, one where it says nothing.
  starts = re.findall(r'\brollout(\d*)/predicted_emb', ' '.join(data))
  assert len(starts) == 2
  rolled = {start: roll(int(start or 1)) for start in starts}
  for start in starts:
    close(rolled[start], data[f'rollout{start}/predicted_emb'], 1e-5)
  encode = jax.jit(lambda x: model.apply(variables, x, method='encode'))
  goal = encode(images(data['goal_pixels']))
  close(goal, data['goal_emb'], 1e-5)
  cost = np.square(rolled[''][:, :, -1] - np.asarray(goal)).sum(axis=-1)
  close(cost, data['cost'], 1e-5)


@pytest.mark.slow
def test_training(golden, model, variables):
  data, meta = golden
  history = meta['config']['history_size']
  convert = lewm.LAYOUTS['transformers_5'].convert

  def loss_fn(params):
    def forward(model):
      latents = model.encode(images(data['pixels']), train=True)
      (pred,) = rolling.rollout_windows(
        lambda *window: model.predict(*window, train=True),
        latents,
        jnp.asarray(data['actions'])[:, :history],
        history=history,
        num_steps=1,
      )
      return latents, pred

    (latents, pred), updates = model.apply(
      {**variables, 'params': params}, method=forward, mutable=['batch_stats']
    )
    target = rolling.window_view(latents, 1, (1, history))
    loss = prediction.squared_error(pred, target).mean()
    return loss, (latents, pred, updates['batch_stats'])

  (loss, (latents, pred, batch_stats)), grads = jax.jit(
    jax.value_and_grad(loss_fn, has_aux=True)
  )(variables['params'])
  close(latents, data['train/emb'], 1e-5)
  close(pred[:, 0], data['train/pred'], 1e-5)
  close(loss, data['train/pred_loss'], 1e-5)

  statistic = sigreg.sigreg_statistic(
    jnp.swapaxes(latents, 0, 1), jnp.asarray(data['train/sigreg_A'])
  ).mean()
  close(statistic, data['train/sigreg_loss'], 1e-5)

  ours = traverse_util.flatten_dict(
    {'params': grads, 'batch_stats': batch_stats}, sep='/'
  )
  for group in ('grad', 'after'):
    names = [x for x in data if x.startswith(f'train/{group}/')]
    assert names
    for name in names:
      tensor_name = name.removeprefix(f'train/{group}/')
      for path, expected in convert(tensor_name, data[name]).items():
        close(ours[path], expected, 2e-5)

  names = meta['grad_l2_names']
  norms = [
    np.sqrt(
      sum(
        np.square(np.asarray(ours[path], np.float64)).sum()
        for path in convert(name, data[f'sd/{name}'])
      )
    )
    for name in names
  ]
  # Some of these gradients are zero but for rounding.
  expected = data['train/grad_l2']
  tolerance = 1e-8 * expected.max() + 1e-6 * np.median(expected)
  np.testing.assert_allclose(norms, expected, rtol=1e-4, atol=tolerance)
