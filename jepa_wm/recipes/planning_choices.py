"""What several names and options of a planning run mean together."""

from collections.abc import Mapping, Sequence
from typing import Any

from jepa_wm import fields, files
from jepa_wm.envs import worlds
from jepa_wm.evaluation.planning import planner_settings


def shifts(environment: str, asked: Sequence[str]) -> list[str | None]:
  """The world as it is, then those that were asked for.

  Raises:
    ValueError: no such factors in this world.
  """
  known = worlds.get(environment).variation_groups
  if 'all' in asked:
    if not known:
      raise ValueError(f'{environment!r} has no factors of variation to shift.')
    asked = tuple(known)
  for name in asked:
    fields.check_choice(f'shift in {environment}', name, ['all', *known])
  return [None, *asked]


def check_once(name: str, values: Sequence[Any]) -> None:
  """Refuses a list that names one thing twice: it would count as two.

  Raises:
    ValueError: it does; folders are alike whatever they are called.
  """
  seen: dict[Any, Any] = {}
  for value in values:
    alike = value
    if isinstance(value, str) and files.expand(value).exists():
      alike = files.real(value)
    if alike in seen:
      raise ValueError(
        f'{name} names {value!r} twice (first as {seen[alike]!r}), and the '
        'same would count as two; leave one out.'
      )
    seen[alike] = value


def shared_out(
  planners: Sequence[str], given: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
  """Options of each planner.

  Raises:
    ValueError: no such planner, or one that gets an option twice.
  """
  for name in planners:
    planner_settings.make_planner(name)
  options: dict[str, dict[str, Any]] = {name: {} for name in planners}
  for name, value in given.items():
    planner, _, option = name.rpartition('.')
    if planner:
      fields.check_choice(f'The planner in set {name}', planner, options)
    takers = [planner] if planner else list(options)
    if len(takers) > 1:
      having = [x for x in takers if planner_settings.has_option(x, option)]
      takers = having or takers
    for taker in takers:
      if option in options[taker]:
        raise ValueError(
          f'{option} is given twice, the second time as {f"{name}={value}"!r}.'
        )
      options[taker][option] = value
  return options
