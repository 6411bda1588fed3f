"""Floors and ceilings, measured once."""

import contextlib
import dataclasses
import functools
import json
from typing import Any

from jepa_wm import files, processes, signed
from jepa_wm.envs import stage as stage_lib
from jepa_wm.evaluation.planning import (
  manifests,
  pairs,
  planning_benchmark,
  protocol,
)
from jepa_wm.evaluation.statistics import runs


class Baselines:
  """Floor and ceiling, which an expert that plans takes minutes for.

  Kept in memory, and in the cache folder for the same code and device.
  """

  def __init__(self, device: str, code: Any) -> None:
    """Measures nothing yet; `device` and `code` are part of what is kept."""
    self._where = {'device': device, 'code': code}
    self._found: dict[str, planning_benchmark.Baseline] = {}

  def of(
    self,
    chosen: protocol.Protocol,
    problems: pairs.Pairs,
    shift: str | None,
    seed: int,
    stage: stage_lib.Stage,
  ) -> planning_benchmark.Baseline:
    """Those of a protocol's pairs.

    Args:
      chosen: the protocol.
      problems: its pairs.
      shift: group of factors that is drawn anew for each of them.
      seed: of the random actions.
      stage: of the world.
    """
    name = runs.identify(
      {
        'protocol': chosen.to_dict(),
        'pairs': [problems.manifest_sha256, problems.ids.tolist()],
        'shift': shift,
        'seed': seed,
        **self._where,
      }
    )
    if name not in self._found:
      measure = functools.partial(
        self._kept, name, chosen, problems, seed, stage
      )
      said = processes.from_first(measure)
      self._found[name] = planning_benchmark.Baseline(**said)
    return self._found[name]

  def _kept(
    self,
    name: str,
    chosen: protocol.Protocol,
    problems: pairs.Pairs,
    seed: int,
    stage: stage_lib.Stage,
  ) -> dict[str, Any]:
    """Those of a name, measured where they are not kept as they were."""
    path = manifests.cache_folder() / 'baselines' / f'{name}.json'
    try:
      found = planning_benchmark.Baseline(**signed.read(path))
    except (OSError, ValueError, TypeError):
      found = planning_benchmark.measure_baseline(
        chosen, problems, stage=stage, seed=seed
      )
      # Whoever cannot keep it measures it again.
      with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = signed.sign(dataclasses.asdict(found))
        files.write_whole(path, json.dumps(content))
    return dataclasses.asdict(found)
