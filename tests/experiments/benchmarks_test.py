"""What is wrong with a benchmark's command line ends in one sentence."""

import pytest
from absl import app, flags

from benchmarks import records


@pytest.mark.parametrize(
  'argv, error, sentence',
  [
    (['--quik'], None, 'There is no flag --quik'),
    (
      ['quick'],
      None,
      "Every argument is a flag, as in --name=value, got 'quic",
    ),
    ([], ValueError('batch_size must be positive.'), 'batch_size must be'),
    ([], ImportError('no torch'), 'no torch'),
  ],
)
def test_it_ends_in_one_sentence(monkeypatch, argv, error, sentence):
  def main(argv):
    if error is not None:
      raise error

  def run(main, flags_parser):
    main(flags_parser(['benchmark', *argv]))

  monkeypatch.setattr(app, 'run', run)
  own = flags.FlagValues()
  flags.DEFINE_integer('verbosity', 0, 'As of absl.', flag_values=own)
  monkeypatch.setattr(flags, 'FLAGS', own)
  with pytest.raises(SystemExit) as raised:
    records.run(main)
  assert str(raised.value).startswith(sentence)
