import numpy as np
import pytest

from jepa_wm.data import config, mixtures
from jepa_wm.models import vjepa
from jepa_wm.recipes import sources


class Numbers:
  """Rows that say their dataset and their number."""

  def __init__(self, name, split, seed, batch_size, rows=None):
    self.about, self._at, self._size = (name, split, seed), 0, batch_size
    self._rows = np.arange(batch_size) if rows is None else rows

  def __next__(self):
    rows = self._at + self._rows
    self._at += self._size
    pixels = np.stack([np.full(len(rows), self.about[0]), rows], -1)
    return {'observation': {'pixels': pixels}, 'label': rows}

  def get_state(self):
    return self._at

  def set_state(self, state):
    self._at = state


def make(weights, batch_size, **own):
  opened = []

  def stream(name):
    def open_stream(**given):
      opened.append(Numbers(name, **given))
      return opened[-1]

    return open_stream

  streams = [stream(name) for name in range(len(weights))]
  mixture = mixtures.Mixture(
    streams, weights, split='train', seed=3, batch_size=batch_size, **own
  )
  return mixture, opened


def test_each_process_reads_its_rows(shared_out):
  # The first has none of the second dataset, and knows its position.
  shared_out(lambda **own: make((1, 1), 8, **own)[0], 8)


@pytest.mark.parametrize(
  ('weights', 'batch_size', 'rows'),
  [
    ((1.0, 1.0), 4, (2, 2)),
    ((0.7, 0.3), 10, (7, 3)),
    ((7, 3), 9, (6, 3)),
    ((1, 1, 1), 8, (3, 3, 2)),
  ],
)
def test_shares_are_those_of_the_largest_remainder(weights, batch_size, rows):
  assert mixtures.counts(weights, batch_size) == rows
  mixture, _ = make(weights, batch_size)
  pixels = next(mixture)['observation']['pixels']
  assert tuple(np.bincount(pixels[:, 0])) == rows


def test_a_mixture_goes_on_where_it_was():
  mixture, opened = make((2, 1), 3)
  assert len({numbers.about[2] for numbers in opened}) == 2
  assert next(mixture).keys() == {'observation'}
  state = mixture.get_state()
  after = next(mixture)['observation']['pixels']
  again, _ = make((2, 1), 3)
  again.set_state(state)
  np.testing.assert_array_equal(next(again)['observation']['pixels'], after)
  np.testing.assert_array_equal(after[:, 1], [2, 3, 1])


@pytest.mark.parametrize(
  ('weights', 'sentence'),
  [((1, 0), 'must be positive'), ((1, 99), 'no row of a batch of 4')],
)
def test_shares_that_make_no_sense(weights, sentence):
  with pytest.raises(ValueError, match=sentence):
    mixtures.counts(weights, 4)


def test_digits_before_two_backgrounds():
  model = vjepa.VJEPA(
    encoder=vjepa.video_vit.VideoViTConfig(
      image_size=24,
      patch_size=4,
      num_frames=2,
      width=48,
      depth=1,
      num_heads=2,
      mlp_dim=8,
    ),
    predictor=vjepa.masked_predictor.MaskedPredictorConfig(
      width=48, depth=1, num_heads=2, mlp_dim=8
    ),
    masks=vjepa.mask_settings.VideoMasks(blocks=(1,), percent=(25,)),
  ).build()
  data = config.DataConfig(
    source='digits:none,digits:noise',
    weights=(0.25, 0.75),
    batch_size=4,
    num_eval_windows=4,
    num_frames=2,
  )
  source = sources.open_source(data, model)
  pixels = np.asarray(next(source.batches('train', 0))['observation']['pixels'])
  assert pixels.shape == (4, 2, 24, 24, 3)
  black = (pixels == 0).mean((1, 2, 3, 4))
  assert black[0] > 0.5 and black[1:].max() < 0.1


@pytest.mark.parametrize(
  ('fields', 'sentence'),
  [
    ({'source': 'digits,cache'}, "a mixture is of 'digits' and 'tfds:NAME'"),
    ({'source': 'digits,digit'}, "got 'digit'"),
    ({'source': 'cache:noise'}, "got 'cache:noise'"),
    ({'source': 'digits,digits', 'weights': (1,)}, 'one for each part'),
    ({'source': 'digits', 'weights': (1,)}, 'part of a mixture, and'),
  ],
)
def test_a_mixture_of_what_does_not_mix(fields, sentence):
  with pytest.raises(ValueError, match=sentence):
    config.DataConfig(**fields)
