import jax.numpy as jnp
import numpy as np

from jepa_wm.objectives import rolling


def test_rollout_predicts_on_from_its_predictions():
  latents = np.random.default_rng(0).normal(size=(2, 6, 3))
  actions = np.random.default_rng(1).normal(size=(2, 5, 3))
  rolled = rolling.rollout_windows(
    lambda z, a: 2 * z + a, latents, actions, history=2, num_steps=3
  )
  assert [x.shape for x in rolled] == [(2, 4, 2, 3), (2, 3, 2, 3), (2, 2, 2, 3)]
  for j, estimates in enumerate(rolled, 1):
    for w, i in np.ndindex(estimates.shape[1:3]):
      expected = latents[:, w + i]
      for step in range(j):
        expected = 2 * expected + actions[:, w + i + step]
      np.testing.assert_allclose(estimates[:, w, i], expected, rtol=1e-5)
    targets = rolling.window_view(latents, j, estimates.shape[1:3])
    for w, i in np.ndindex(estimates.shape[1:3]):
      np.testing.assert_allclose(targets[:, w, i], latents[:, w + i + j])


def test_scheduled_sampling_puts_true_latents_in(rng_key):
  latents = np.random.default_rng(0).normal(size=(64, 6, 3))
  actions = np.random.default_rng(1).normal(size=(64, 5, 3))

  def roll(share):
    return rolling.rollout_windows(
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
    truth = rolling.window_view(latents, step, shape)
    taken = rolling.window_view(actions, step, shape)
    np.testing.assert_allclose(always[step], 2 * truth + taken, rtol=1e-5)
    fed = (sometimes[step] - taken) / 2
    before = sometimes[step - 1][:, : shape[0]]
    # Whole tokens, each of one of the two.
    is_true = np.isclose(fed, truth, atol=1e-5).all(-1)
    is_predicted = np.isclose(fed, before, atol=1e-5).all(-1)
    assert (is_true ^ is_predicted).all()
    # Five standard errors of a share of 1/4.
    assert abs(is_true.mean() - 0.25) < 5 * np.sqrt(0.1875 / is_true.size)


def test_windows_that_slide_have_the_past_of_a_plan():
  latents = np.random.default_rng(0).normal(size=(2, 6, 3))
  actions = np.random.default_rng(1).normal(size=(2, 5, 3))

  def predict(z, a):
    # A token sees itself and the one before it.
    before = np.concatenate([0 * z[:, :, :1], z[:, :, :-1]], axis=2)
    return 2 * z - before + a

  rolled = rolling.slide_windows(
    predict, latents, actions, history=2, num_steps=3
  )
  assert [x.shape for x in rolled] == [(2, 4, 2, 3), (2, 3, 1, 3), (2, 2, 1, 3)]
  first = rolling.rollout_windows(
    predict, latents, actions, history=2, num_steps=1
  )[0]
  np.testing.assert_allclose(rolled[0], first, rtol=1e-6)
  for w in range(2):
    seen = [latents[:, w], latents[:, w + 1]]
    for step in range(3):
      seen.append(2 * seen[-1] - seen[-2] + actions[:, w + 1 + step])
      np.testing.assert_allclose(rolled[step][:, w, -1], seen[-1], rtol=1e-5)
