import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import jepa
from jepa_wm.families import LeWM

FAMILY = LeWM(
  image_size=8,
  action_dim=1,
  action_block=2,
  history=2,
  latent_dim=4,
  encoder='conv',
  encoder_features=6,
  encoder_channels=(3,),
  encoder_strides=(4,),
  encoder_blocks=(0,),
  projector_dim=5,
  predictor_dim=4,
  predictor_depth=1,
  predictor_heads=1,
  predictor_head_dim=4,
  predictor_mlp_dim=8,
)


@pytest.fixture(scope='module')
def model():
  return FAMILY.model()


@pytest.fixture(scope='module')
def variables():
  # Drawn by NumPy: compiling the init would cost seconds.
  draw = np.random.default_rng(0)
  shapes = jax.eval_shape(FAMILY.init, jax.random.key(0))
  return {
    'params': jax.tree.map(
      lambda x: jnp.asarray(draw.normal(0, 0.4, x.shape), x.dtype),
      shapes['params'],
    ),
    'batch_stats': jax.tree.map(
      lambda x: jnp.asarray(draw.uniform(0.5, 1.5, x.shape), x.dtype),
      shapes['batch_stats'],
    ),
  }


@pytest.fixture(scope='module')
def pixels():
  draw = np.random.default_rng(1)
  return draw.normal(size=(6, 2, 8, 8, 3)).astype(np.float32)


def moved(variables):
  return jax.tree.map(lambda x: x + 1, variables)


def same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_predicts_from_pixels(model, variables, pixels):
  actions = jnp.ones((6, 2, 2))

  @jax.jit
  def run(pixels):
    latents = model.apply(variables, pixels, method='encode')
    predicted = model.apply(variables, latents, actions, method='predict')
    return latents, predicted, model.apply(variables, pixels, actions)

  latents, predicted, at_once = run(pixels)
  assert latents.shape == predicted.shape == (6, 2, 4)
  assert latents.dtype == predicted.dtype == jnp.float32
  np.testing.assert_allclose(at_once, predicted, atol=1e-6)
  with pytest.raises(ValueError, match='latents and actions must agree'):
    model.apply(variables, latents, actions[:, :1], method='predict')


def test_rollout_predicts_on_from_its_predictions():
  latents = np.random.default_rng(0).normal(size=(2, 6, 3))
  actions = np.random.default_rng(1).normal(size=(2, 5, 3))
  rolled = jepa.rollout_windows(
    lambda z, a: 2 * z + a,
    latents,
    actions,
    history=2,
    num_steps=3,
  )
  assert [x.shape for x in rolled] == [(2, 4, 2, 3), (2, 3, 2, 3), (2, 2, 2, 3)]
  for j, estimates in enumerate(rolled, 1):
    for w, i in np.ndindex(estimates.shape[1:3]):
      expected = latents[:, w + i]
      for step in range(j):
        expected = 2 * expected + actions[:, w + i + step]
      np.testing.assert_allclose(estimates[:, w, i], expected, rtol=1e-5)
    targets = jepa.window_view(latents, j, estimates.shape[1:3])
    for w, i in np.ndindex(estimates.shape[1:3]):
      np.testing.assert_allclose(targets[:, w, i], latents[:, w + i + j])


def test_scheduled_sampling_puts_true_latents_in(rng_key):
  latents = np.random.default_rng(0).normal(size=(64, 6, 3))
  actions = np.random.default_rng(1).normal(size=(64, 5, 3))

  def roll(share):
    return jepa.rollout_windows(
      lambda z, a: 2 * z + a,
      jnp.asarray(latents),
      jnp.asarray(actions),
      history=2,
      num_steps=3,
      true_share=share,
      rng_key=rng_key,
    )

  never, sometimes, always = (roll(share) for share in (0.0, 0.25, 1.0))
  np.testing.assert_array_equal(never[0], sometimes[0])
  for step in (1, 2):
    shape = sometimes[step].shape[1:3]
    truth = jepa.window_view(latents, step, shape)
    taken = jepa.window_view(actions, step, shape)
    np.testing.assert_allclose(always[step], 2 * truth + taken, rtol=1e-5)
    fed = (sometimes[step] - taken) / 2
    before = sometimes[step - 1][:, : shape[0]]
    # Whole tokens, each of one of the two.
    is_true = np.isclose(fed, truth, atol=1e-5).all(-1)
    is_predicted = np.isclose(fed, before, atol=1e-5).all(-1)
    assert (is_true ^ is_predicted).all()
    # Five standard errors of a share of 1/4.
    assert abs(is_true.mean() - 0.25) < 5 * np.sqrt(0.1875 / is_true.size)


def test_shared_target_is_nothing(model, variables, pixels):
  assert jepa.init_target('shared', variables) is None
  assert jepa.update_target('shared', None, variables, momentum=0.9) is None
  with pytest.raises(ValueError, match=r"kind 'shared' .* init_target"):
    jepa.encode_target('shared', model, None, pixels)


@pytest.mark.parametrize('kind', ['ema', 'frozen'])
def test_target_copies_encoder_and_projector(kind, variables):
  target = jepa.init_target(kind, variables)
  assert set(target['params']) == {'encoder', 'projector'}
  assert set(target['batch_stats']) == {'projector'}
  for collection, modules in target.items():
    for name, module in modules.items():
      same(module, variables[collection][name])
  # Copies: the training state is donated.
  jax.tree.map(
    lambda a, b: pytest.fail('the same buffer') if a is b else None,
    target['params']['encoder'],
    variables['params']['encoder'],
  )


def test_ema_target_follows(variables):
  target = jepa.init_target('ema', variables)
  same(jepa.update_target('ema', target, variables, momentum=0.9), target)
  followed = target
  for _ in range(2):
    followed = jepa.update_target(
      'ema', followed, moved(variables), momentum=0.9
    )
  jax.tree.map(
    lambda new, old: np.testing.assert_allclose(
      new - old, np.full(old.shape, 1 - 0.9**2), rtol=1e-4
    ),
    followed,
    target,
  )


def test_frozen_target_stays(variables):
  target = jepa.init_target('frozen', variables)
  same(
    jepa.update_target('frozen', target, moved(variables), momentum=0.9),
    target,
  )


@pytest.mark.parametrize('kind', ['ema', 'frozen'])
def test_target_latents_have_no_gradient(kind, model, variables, pixels):
  target = jepa.init_target(kind, variables)
  slope = jax.grad(
    lambda target: jepa.encode_target(kind, model, target, pixels).sum()
  )(target)
  assert all((x == 0).all() for x in jax.tree.leaves(slope))


def test_frozen_target_is_one_function_and_ema_normalises(
  model, variables, pixels
):
  target = jepa.init_target('ema', variables)
  few, all_ = (
    jepa.encode_target('frozen', model, target, x) for x in (pixels[:2], pixels)
  )
  np.testing.assert_allclose(few, all_[:2], atol=1e-5)
  online, _ = model.apply(
    variables, pixels, train=True, method='encode', mutable=['batch_stats']
  )
  np.testing.assert_allclose(
    jepa.encode_target('ema', model, target, pixels), online, atol=1e-5
  )
  assert np.abs(online - all_).max() > 1e-2


def test_doors(variables):
  with pytest.raises(ValueError, match=r"target must be one of .*'average'"):
    jepa.init_target('average', variables)
