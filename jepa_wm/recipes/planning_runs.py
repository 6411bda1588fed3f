"""Plans every combination that was asked for, once, whatever interrupts it."""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import tqdm
from absl import logging

from jepa_wm import exports, files, processes, provenance, sharding
from jepa_wm.envs import worlds, zones
from jepa_wm.evaluation.diagnostics import diagnostic, finding, played
from jepa_wm.evaluation.planning import (
  fitting,
  guarding,
  pairs,
  planner_settings,
  planning_benchmark,
  programs,
  protocol,
  shifts,
)
from jepa_wm.evaluation.report import report
from jepa_wm.evaluation.statistics import runs
from jepa_wm.recipes import (
  baselines,
  identity,
  planning_groups,
  planning_heads,
  record_findings,
  replanning,
)
from jepa_wm.recipes import stages as stages_lib


@dataclasses.dataclass(frozen=True)
class Combination:
  """One line of what was asked for.

  Attributes:
    checkpoint: what was named: as for `WorldModel.from_checkpoint`, or a head
      that acts.
    protocol: what is measured.
    settings: who plans.
    shift: group of factors that is drawn anew for every pair, None for none.
    seed: of the planner's and the random policy's draws.
    encoder: the model that plans, as for `WorldModel.from_checkpoint`.
  """

  checkpoint: str
  protocol: protocol.Protocol
  settings: planner_settings.PlannerSettings
  shift: str | None
  seed: int
  encoder: str

  @property
  def where(self) -> tuple[str, str]:
    """The model that plans, and the world in which it does."""
    return self.encoder, self.protocol.environment

  @property
  def zone(self) -> zones.Zone | None:
    """Where no problem starts or ends."""
    return None if self.settings.guard is None else self.settings.guard.zone

  def __str__(self) -> str:
    parts = [self.checkpoint, self.protocol.name, self.settings.name]
    parts += [] if self.shift is None else [self.shift]
    return ', '.join([*parts, f'seed {self.seed}'])


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of the combinations.

  Attributes:
    finished: runs in the order that was asked for.
    num_kept: how many of them an earlier call had finished.
    failures: a sentence for each that came to nothing.
  """

  finished: list[runs.Run]
  num_kept: int
  failures: list[str]


class Interrupted(KeyboardInterrupt):
  """Ctrl-C; its text says what is there."""


@dataclasses.dataclass
class Plans:
  """Combinations on their way.

  All that can be wrong with them is found before anything is planned. A
  combination's folder under `out/runs` ends in a hash of what decides its
  result: weights, protocol, planner, pairs, shift, seed, device and the code of
  the package. Where it is there, nothing is measured again.

  Attributes:
    combinations: what was asked for.
    out: folder of the results.
    command: for the report.
    episodes: archive that pairs are cut out of, None for the manifests.
    batch_size: as for `planning_benchmark.run`.
    decoder: folder of a head that draws what the models imagine, None for none.
    show_progress: whether to draw a progress bar.
    development: whether settings are to be chosen: on other pairs, of which
      nothing is drawn or written but the runs.
    diagnostics: names of what is asked about every checkpoint, in its world as
      it is, where that is a JAX world.

  Raises:
    OSError: no checkpoint or archive.
    ValueError: a broken checkpoint, pairs that are not there, shifts that the
      world does not have, a history that is too long, no such diagnostic, a
      head of another encoder or without the role.
  """

  combinations: Sequence[Combination]
  out: pathlib.Path
  command: str
  episodes: str | None = None
  batch_size: int | None = None
  decoder: str | None = None
  show_progress: bool = True
  diagnostics: Sequence[str] = ('rollout_error',)
  development: bool = False

  def __post_init__(self) -> None:
    self._asked = diagnostic.named(self.diagnostics)
    self._model = functools.lru_cache(maxsize=1)(planning_groups.load)
    self._decoder = functools.cache(self._load_decoder)
    self._pairs = functools.cache(self._load_pairs)
    self._calibrations = replanning.Calibrations(self.episodes)
    self._finished: dict[int, runs.Run] = {}
    self._findings: dict[Any, finding.Finding] = {}
    self._programs = programs.Programs()
    self._code = provenance.code()
    self._device = sharding.device_description()
    self._baselines = baselines.Baselines(self._device, self._code)
    hashes: dict[str, str] = {}
    self._folders = []
    for one in self.combinations:
      if one.encoder not in hashes:
        hashes[one.encoder] = identity.of_model(self._model(*one.where))
      fitting.check_model(self._model(*one.where), one.settings)
      fitting.check_blocks(self._model(*one.where), one.protocol)
      problems = self._pairs(one.protocol, one.shift, one.zone)
      drawn_by = self._decoder(one.encoder, one.protocol.environment)
      found = runs.identify(
        {
          **({} if drawn_by is None else {'decoder': drawn_by.digest}),
          'checkpoint': hashes[one.encoder],
          'protocol': one.protocol.to_dict(),
          'planner': one.settings.to_dict(),
          'pairs': problems.manifest_sha256,
          'shift': one.shift,
          'seed': one.seed,
          'device': self._device,
          'code': self._code,
        }
      )
      stem = pathlib.Path(one.checkpoint).name
      parts = [stem, one.protocol.name, one.settings.name]
      if one.settings.agents is not None:
        parts.append(one.settings.agents.scheme)
      parts += [] if one.shift is None else [one.shift]
      name = '-'.join([*parts, f'seed{one.seed}', found])
      self._folders.append(self.out / 'runs' / name)

  def run(self) -> Outcome:
    """Plans what is missing; writes what there is after every combination.

    Raises:
      Interrupted: Ctrl-C.
      OSError: the folder cannot be written.
    """
    finished = self._finished
    missing = processes.from_first(self._missing)
    num_kept = len(self.combinations) - len(missing)
    failures: list[str] = []
    plans = {
      i: one.protocol.num_plans
      * len(self._pairs(one.protocol, one.shift, one.zone))
      for i, one in enumerate(self.combinations)
    }
    with (
      tqdm.tqdm(
        total=sum(plans[i] for i in missing),
        unit='plan',
        disable=not self.show_progress or not missing,
      ) as bar,
      stages_lib.Stages() as stages,
    ):
      for number, i in enumerate(missing, start=1):
        one = self.combinations[i]
        title = f'planning ({one.protocol.name})'
        if len(missing) > 1:
          title = f'{number} of {len(missing)}: {one}'
        bar.set_description(title)
        before = bar.n
        try:
          result = self._plan(one, stages, bar)
          bar.set_description(f'drawing ({one.protocol.name})')
          processes.by_first(functools.partial(self._keep, i, result))
        except KeyboardInterrupt:
          done = len(finished)
          raise Interrupted(
            f'Interrupted; {done} of {len(self.combinations)} results are '
            'kept, and the same command goes on from there.'
            if done
            else 'Interrupted; no result was written.'
          ) from None
        except OSError:
          raise
        except Exception as error:
          if not sharding.is_alone():
            raise  # Other processes may be in the middle of it.
          # The others may still go well.
          logging.debug('%s', error, exc_info=True)
          text = str(error).strip() or type(error).__name__
          failures.append(f'{one}: {text.splitlines()[0]}')
          bar.update(plans[i] - (bar.n - before))
          continue
        if number < len(missing) and not self.development:
          processes.by_first(
            lambda: self.write(list(finished.values()), failures)
          )
    return Outcome([finished[i] for i in sorted(finished)], num_kept, failures)

  def _missing(self) -> list[int]:
    """What is to be planned; what is there already is finished."""
    found = [_load(folder) for folder in self._folders]
    for i, run in enumerate(found):
      if run is not None:
        self._finished[i] = self._kept(i, run)
    return [i for i, run in enumerate(found) if run is None]

  def _keep(self, i: int, result: planning_benchmark.Result) -> None:
    """Draws and saves a run."""
    drawn = self._drawn(self.combinations[i], result)
    runs.save(drawn, self._folders[i])
    self._finished[i] = drawn

  def write(
    self, finished: Sequence[runs.Run], failures: Sequence[str]
  ) -> list[pathlib.Path]:
    """Writes the report, and pictures beside it where there is one run."""
    paths = report.write(
      finished, self.out, command=self.command, failures=failures
    )
    if len(self.combinations) == 1:
      names = 'search.png', 'episodes.gif', 'imagination.gif'
      for name in (*names, 'imagination.png'):
        if content := finished[0].pictures.get(name):
          files.write_whole(self.out / name, content)
          paths.append(self.out / name)
    return paths

  def _load_pairs(
    self,
    chosen: protocol.Protocol,
    shift: str | None,
    zone: zones.Zone | None,
  ) -> pairs.Pairs:
    if zone is not None:
      found = self._pairs(chosen, shift, None)
      return guarding.outside(found, zone, chosen.environment)
    if shift is not None:
      env: Any = worlds.get(chosen.environment).make()
      return shifts.apply(self._pairs(chosen, None, None), env, shift)
    if self.development:
      return pairs.development(chosen, chosen.num_pairs, episodes=self.episodes)
    if self.episodes is not None and chosen.origin != 'reset':
      return pairs.from_archive(chosen, self.episodes)
    return pairs.load_pairs(chosen)

  def _load_decoder(
    self, checkpoint: str, environment: str
  ) -> exports.TrainedHead | None:
    if self.decoder is None:
      return None
    model = self._model(checkpoint, environment)
    return planning_heads.decoder(self.decoder, model, checkpoint, environment)

  def _plan(
    self, one: Combination, stages: stages_lib.Stages, bar: tqdm.tqdm
  ) -> planning_benchmark.Result:
    model = self._model(*one.where)
    problems = self._pairs(one.protocol, one.shift, one.zone)
    stage = stages.get(one.protocol.environment, model.image_size)
    settings = self._calibrations.settings(
      one.encoder,
      model,
      one.protocol,
      one.settings,
      stage=stage,
      programs=self._programs,
      batch_size=self.batch_size,
    )
    return planning_benchmark.run(
      model,
      one.protocol,
      problems,
      settings=settings,
      seed=one.seed,
      batch_size=self.batch_size,
      stage=stage,
      checkpoint=one.checkpoint,
      shift=one.shift,
      baseline=self._baselines.of(
        one.protocol, problems, one.shift, one.seed, stage
      ),
      # Seeds and shifts share what is compiled.
      programs=self._programs,
      bar=bar,
    )

  def _drawn(
    self, one: Combination, result: planning_benchmark.Result
  ) -> runs.Run:
    """A run with all that is shown of it."""
    if self.development:
      return runs.Run(result.record, result.episodes, {})
    drawn_by = self._decoder(one.encoder, one.protocol.environment)
    return report.draw(
      result,
      findings={
        **record_findings.of(result.record),
        **self._examined(one, {}),
      },
      imagined=planning_heads.imagined(
        drawn_by, self._model(*one.where), one.protocol.environment
      ),
      picture_fn=planning_heads.picture_fn(drawn_by),
    )

  def _kept(self, i: int, run: runs.Run) -> runs.Run:
    """A run of an earlier call, with what it was not asked then."""
    findings = {
      **record_findings.of(run.record),
      **self._examined(self.combinations[i], run.findings),
    }
    if findings.keys() - run.findings.keys():
      more = {**run.findings, **findings}
      runs.save(dataclasses.replace(run, findings=more), self._folders[i])
    return dataclasses.replace(run, findings=findings)

  def _examined(
    self, one: Combination, known: Mapping[str, finding.Finding]
  ) -> dict[str, finding.Finding]:
    """What was asked about a checkpoint, found out once for each of them."""
    world = worlds.get(one.protocol.environment)
    if one.shift is not None or world.on_host:
      return {}
    horizon = one.protocol.horizon
    model = self._model(*one.where)
    episodes = diagnostic.Episodes(
      functools.partial(played.windows, model, world, horizon=horizon),
      world,
      horizon,
    )
    question = diagnostic.Question(model, episodes, jax.random.key(0))
    findings = {}
    for ask in self._asked:
      key = one.encoder, one.protocol.environment, horizon, ask.name
      if ask.name in known:
        self._findings[key] = known[ask.name]
      if key not in self._findings:
        self._findings[key] = ask(question)
      findings[ask.name] = self._findings[key]
    return findings


def _load(folder: pathlib.Path) -> runs.Run | None:
  """A finished run, None where there is none that can be read."""
  try:
    return runs.load(folder)
  except FileNotFoundError as error:
    logging.debug('%s', error)
  except ValueError as error:
    tqdm.tqdm.write(f'Measured again: {error}', file=sys.stderr)
  return None
