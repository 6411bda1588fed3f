"""Progress of work whose parts each say what share is done."""

from collections.abc import Callable

import tqdm


class Bar:
  """A progress bar over a few parts that each go from 0 to 1."""

  def __init__(self, title: str, num_parts: int, show: bool):
    self._bar = tqdm.tqdm(
      total=100 * num_parts,
      desc=title,
      disable=not show,
      bar_format='{desc:28} {bar:24} {percentage:3.0f}% {elapsed}<{remaining}',
    )

  def __enter__(self) -> 'Bar':
    return self

  def __exit__(self, *_: object) -> None:
    self._bar.close()

  def part(self, number: int) -> Callable[[float], None]:
    """Takes the share of part `number` that is done."""

    def report(share: float) -> None:
      self._bar.update(round(100 * (number + share)) - self._bar.n)

    return report
