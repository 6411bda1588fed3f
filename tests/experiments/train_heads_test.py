"""Heads from the command line: trained, then used by planning."""

import dataclasses
import functools
import json
import re

import jax
import numpy as np
import pytest
import small_model
from given_flags import given_flags

from experiments import plan
from experiments.configs import heads as configs
from experiments.configs import rl
from jepa_wm import exports, fields, recipes
from jepa_wm.data import cache, episodes
from jepa_wm.evaluation.diagnostics import imagination
from jepa_wm.evaluation.report import videos
from jepa_wm.models import heads
from jepa_wm.recipes import (
  frame_latents,
  planning_heads,
  record_findings,
  training_heads,
)
from jepa_wm.training import metrics

# Half of the walks' states, and corners of the world where they start and go.
ZONE = 'box:-1,-1,4.5,10'


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  """Walks of noise, of the size that the small model sees."""
  path = tmp_path_factory.mktemp('data') / 'walks'
  rng = np.random.default_rng(0)
  walks = [
    episodes.Episode(
      columns={
        'observation/pixels': np.asarray(small_model.pixels(21, seed=index)),
        'action': rng.uniform(-1, 1, (20, 2)).astype(np.float32),
        'state': rng.uniform(0, 9, (21, 2)).astype(np.float32),
        'reward': rng.uniform(0, 1, 20).astype(np.float32),
      },
      provenance={'index': index},
    )
    for index in range(8)
  ]
  episodes.write_episodes(path, walks, provenance={}, held_out_fraction=0.25)
  cache.build_cache(path)
  return path


@pytest.fixture(scope='module')
def encoder(tmp_path_factory):
  path = tmp_path_factory.mktemp('encoder') / 'small'
  model = small_model.make(exports.WorldModel)
  record = {'config': {'data': {'environment': 'two_room'}}}
  dataclasses.replace(model, record=record).save(path)
  return path


def config(variant, dataset, encoder, **changes):
  settings = configs.get_config(variant).to_dict()
  if 'num_steps' in settings:
    settings |= {'num_steps': 8, 'checkpoint_every': 4, 'eval_every': 4}
  settings['frozen_encoder'] = str(encoder)
  settings['data'] |= {'path': str(dataset), 'batch_size': 8}
  settings['data']['num_eval_windows'] = 16
  return settings | changes


@pytest.fixture(scope='module')
def trained(dataset, encoder, tmp_path_factory):
  """One head of each kind, as folders by name."""
  folder = tmp_path_factory.mktemp('heads')
  names = 'inverse_dynamics', 'decoder', 'probe', 'gcivl', 'reward'
  for name in (*names, 'temporal_distance', 'landmarks'):
    recipes.train_head(config(f'{name}_tiny', dataset, encoder), folder / name)
  above = config('waypoints_tiny', dataset, encoder)
  # All of a walk is four blocks.
  above['head'] |= {'stride': 2, 'num_waypoints': 2, 'num_recorded': 16}
  recipes.train_head(above, folder / 'waypoints')
  guard = config('safety_tiny', dataset, encoder)
  guard['head'] |= {'zone': ZONE}
  recipes.train_head(guard, folder / 'safety')
  return folder


def test_a_head_is_trained_as_any_run(dataset, encoder, trained, capsys):
  records = metrics.read(trained / 'decoder' / 'metrics.jsonl')
  evaluated = [r['step'] for r in records if 'held_out/loss' in r]
  assert evaluated == [0, 4, 8]
  assert (trained / 'decoder' / 'curves.png').exists()
  found = exports.TrainedHead.load(trained / 'decoder')
  assert found.encoder == str(encoder)
  assert found.record['config']['head']['channels'] == [8]
  # The latents are there: nothing is encoded again, and the run goes on.
  capsys.readouterr()
  settings = config('decoder_tiny', dataset, encoder, num_steps=10)
  recipes.train_head(settings, trained / 'decoder')
  said = capsys.readouterr().err
  assert 'Going on from' in said and 'encoding' not in said
  longer = exports.TrainedHead.load(trained / 'decoder')
  assert longer.digest != found.digest


@pytest.mark.parametrize(
  'name, changes, message',
  [
    ('waypoints', {'num_waypoints': 90}, 'window'),
    ('gcivl', {'data': {'num_frames': 3}}, '^config.data.num_frames=3 would'),
  ],
)
def test_what_is_refused_is_refused_before_any_frame_is_encoded(
  dataset, encoder, tmp_path, monkeypatch, name, changes, message
):
  monkeypatch.setattr(
    frame_latents, 'of_frames', lambda *_: pytest.fail('encoded')
  )
  settings = config(f'{name}_tiny', dataset, encoder)
  settings['data'] |= changes.pop('data', {})
  settings['head'] |= changes
  with pytest.raises(ValueError, match=message):
    recipes.train_head(settings, tmp_path / 'run')
  assert list(tmp_path.iterdir()) == []


def test_heads_that_act_know_the_bounds_of_actions(encoder, trained):
  found = exports.TrainedHead.load(trained / 'gcivl').head
  # Nobody knows the world of these walks, so it is what was done in them.
  low, high = found.sizes.action_low, found.sizes.action_high
  model = exports.WorldModel.from_checkpoint(encoder)
  raw = model.raw_actions(np.array([low, high], np.float32))
  np.testing.assert_allclose(raw[0], -1.0, atol=0.1)
  np.testing.assert_allclose(raw[1], 1.0, atol=0.1)
  last = metrics.read(trained / 'gcivl' / 'metrics.jsonl')[-1]
  assert np.isfinite(last['held_out/value_loss'])


def test_a_distance_is_held_against_the_steps_that_were_taken(trained):
  folder = trained / 'temporal_distance'
  last = metrics.read(folder / 'metrics.jsonl')[-1]
  found = exports.TrainedHead.load(folder)
  (kept,) = found.record['calibration'].values()  # Nobody knows this world.
  for name in ('spearman', 'bias', 'off', 'slope'):
    logged = last[f'calibration/{name}']
    assert kept['scalars'][name] == pytest.approx(logged, abs=1e-3)
  assert last['held_out/steps_off'] > 0
  assert (folder / 'calibration.png').exists()
  assert found.head.config.max_steps == 0


def test_a_head_of_safety_is_calibrated_by_held_out_states(trained):
  found = exports.TrainedHead.load(trained / 'safety')
  (kept,) = found.record['calibration'].values()
  rows = kept['table']['rows']
  assert [row[0] for row in rows] == ['encoded', '1 ahead', '2 ahead']
  counts = np.asarray(found.params['batch_stats']['counts'])
  assert counts.tolist() == [row[1] for row in rows] and np.all(counts > 2)
  bounds = found.head.roles.guardrail.bounds(found.params, 0.1)
  np.testing.assert_allclose([row[2] for row in rows], bounds)
  assert (trained / 'safety' / 'calibration.png').exists()


@pytest.mark.parametrize(
  'zone, message',
  [
    ('', 'zone must be one of pond'),
    ('disc:100,100,9', 'none of the .* frames at .* lies inside disc:100,100'),
    ('box:-1,-1,10,10', 'none of the .* frames at .* lies outside box'),
  ],
)
def test_a_zone_that_teaches_nothing_is_a_sentence(
  dataset, encoder, tmp_path, zone, message
):
  settings = config('safety_tiny', dataset, encoder)
  settings['head'] |= {'zone': zone}
  with pytest.raises(ValueError, match=message):
    recipes.train_head(settings, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'export').exists()


def test_a_head_without_gradients_is_fitted_by_the_same_door(
  dataset, encoder, trained, tmp_path
):
  folder = trained / 'landmarks'
  (logged,) = metrics.read(folder / 'metrics.jsonl')
  assert logged['fit/edges'] > 0
  found = exports.TrainedHead.load(folder)
  assert found.record['calibration']['steps']['scalars']['off'] >= 0
  assert 'optimizer' not in found.record['config']
  assert found.params['params']['number'] == 16
  # The same command does the same again.
  settings = config('landmarks_tiny', dataset, encoder)
  recipes.train_head(settings, folder)
  assert exports.TrainedHead.load(folder).digest == found.digest
  for changes, where, message in (
    ({'num_steps': 9}, tmp_path / 'run', 'num_steps would do nothing'),
    ({}, trained / 'probe', 'holds a run of another head'),
  ):
    with pytest.raises(ValueError, match=message):
      recipes.train_head(settings | changes, where)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'head': {'name': 'actor_critic'}}, 'trained by experiments.train_agent'),
    ({'frozen_encoder': ''}, 'config.frozen_encoder must be set'),
    ({'head': {'name': 'decodr'}}, r"config.head.name.*Did you mean 'decoder'"),
    ({'head': {'name': 'probe', 'kind': 'x'}}, 'kind must be .*mlp'),
    ({'model': {}}, "config has no field 'model'"),
  ],
)
def test_what_does_not_fit_is_named(
  dataset, encoder, tmp_path, changes, message
):
  settings = config('decoder_tiny', dataset, encoder, **changes)
  with pytest.raises(ValueError, match=message):
    recipes.train_head(settings, tmp_path / 'run')


def test_proposals_are_part_of_a_result_and_of_one_encoder_alone(
  encoder, trained, tmp_path
):
  head = trained / 'inverse_dynamics'
  find = functools.partial(planning_heads.proposals, environment='two_room')
  found = find(str(head), str(encoder))
  digest = exports.TrainedHead.load(head).digest
  assert found.name == f'inverse_dynamics {digest[:16]}'
  with pytest.raises(ValueError, match=re.escape(str(encoder))):
    find(str(head), 'two_room_small')
  with pytest.raises(ValueError, match='proposes no actions'):
    find(str(trained / 'probe'), str(encoder))


def test_a_head_prices_for_its_own_encoder(encoder, trained):
  find = functools.partial(planning_heads.cost_head, environment='two_room')
  found = find(str(trained / 'gcivl'), str(encoder))
  assert found.name.startswith('gcivl ')
  size = exports.TrainedHead.load(trained / 'gcivl').head.sizes.latent_dim
  latents = np.ones((2, 3, size)), np.ones((2, 1, size))
  assert found.cost_fn(*latents).shape == (2, 3)
  steps = find(str(trained / 'temporal_distance'), str(encoder))
  assert np.all(steps.cost_fn(*latents) > 0)
  with pytest.raises(ValueError, match="'inverse_dynamics' prices nothing"):
    find(str(trained / 'inverse_dynamics'), str(encoder))


def test_actions_in_other_units_are_refused(encoder, trained):
  model = exports.WorldModel.from_checkpoint(encoder)
  units = dataclasses.replace(model.units, std=2 * model.units.std)
  other = dataclasses.replace(model, units=units)
  load = functools.partial(exports.TrainedHead.load, where='other')
  load(trained / 'gcivl', model=model)
  with pytest.raises(
    ValueError, match=r"'gcivl' knows actions .* and other in"
  ):
    load(trained / 'gcivl', model=other)
  # What reads frames alone does not care.
  load(trained / 'decoder', model=other)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'action_dim': 4}, r'blocks of \d steps with 4 numbers, and .* takes'),
    ({'environment': 'push_t'}, "trained in 'push_t' and is asked for 'two_ro"),
    (
      {'config': {'agent': {'environment': 'push_t'}}},
      "trained in 'push_t' and is asked for 'two_ro",
    ),
    # In imagination: in the world of the encoder.
    ({}, "trained in 'two_room' and is asked for 'push_t'"),
  ],
)
def test_other_actions_and_other_worlds_are_refused(
  encoder, trained, tmp_path, changes, message
):
  found = exports.TrainedHead.load(trained / 'gcivl')
  if 'action_dim' in changes:
    bounds = {'action_low': (-1.0,) * 4, 'action_high': (1.0,) * 4}
    sizes = dataclasses.replace(found.head.sizes, **changes, **bounds)
    settings = fields.to_dict(found.head.config)
    head = heads.from_config(settings, sizes)
    found = dataclasses.replace(
      found, head=head, params=head.for_inference(head.init(jax.random.key(0)))
    )
  else:
    record = changes if 'config' in changes else {'config': {'data': changes}}
    found = dataclasses.replace(found, record=record)
  found.save(tmp_path / 'other')
  world = 'two_room' if changes else 'push_t'
  with pytest.raises(ValueError, match=message):
    planning_heads.proposals(str(tmp_path / 'other'), str(encoder), world)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'planner': 'cem'}, 'is a head, which planners .* and not cem; pass'),
    ({'proposals': 'runs/other'}, 'are two heads, and one acts'),
    ({'distance': 'l1', 'cost_head': ''}, 'distance=l1 would do nothing'),
    ({'checkpoint': ''}, 'does what a policy says, and there is none'),
    ({'budget_flops': 1e9}, 'budget_flops is for planners with num_samples'),
  ],
)
def test_a_policy_that_cannot_act_so_is_a_sentence(
  encoder, trained, changes, message
):
  given = {'planner': 'policy', 'checkpoint': str(trained / 'gcivl')} | changes
  if 'cost_head' in given:
    given['cost_head'] = str(trained / 'gcivl')
  given['checkpoint'] = given['checkpoint'] or str(encoder)
  with pytest.raises(ValueError, match=message):
    recipes.Planning(**given).combinations()


@pytest.mark.parametrize(
  'given, message',
  [
    ({'upper': '', 'upper_horizon': 2}, 'upper_horizon=2 would do nothing'),
    ({'upper': '', 'subgoal_every': 2}, 'subgoal_every=2 would do nothing'),
    ({'upper': 'gcivl'}, "the head 'gcivl' is no level above"),
    ({'upper_horizon': 3}, 'upper_horizon=3: .* has learnt 2 macro-actions'),
    ({'subgoal_every': 0}, '^subgoal_every must be at least 1, got 0'),
    ({'upper_horizon': 0}, '^upper_horizon must be at least 1, got 0'),
    (
      {'upper': 'landmarks', 'upper_horizon': 2},
      "upper_horizon=2 would do nothing: 'landmarks' searches no",
    ),
    (
      {'upper': 'landmarks,waypoints'},
      'waypoints spans 2 blocks and .*landmarks 4; name the lowest first',
    ),
    ({'upper': 'waypoints,waypoints'}, 'spans 2 blocks and .*waypoints 2'),
  ],
)
def test_a_level_above_that_cannot_be_is_a_sentence(
  encoder, trained, given, message
):
  names = {'upper': 'waypoints', **given}.pop('upper').split(',')
  given = {**given, 'upper': tuple(str(trained / x) for x in names if x)}
  with pytest.raises(ValueError, match=message):
    recipes.Planning(checkpoint=str(encoder), **given).combinations()


def test_levels_stack_the_lowest_first(encoder, trained):
  names = 'waypoints', 'landmarks'
  paths = tuple(str(trained / name) for name in names)
  given = {'checkpoint': str(encoder), 'subgoal_every': 2}
  (one,) = recipes.Planning(upper=paths, **given).combinations()
  assert [x.stride for x in one.settings.upper] == [2, 4]
  found = one.settings.to_dict()['upper']
  assert [x['name'].split()[0] for x in found] == list(names)
  # The tiny one has learnt two macro-actions in a row, and looks no farther.
  assert [x.get('horizon') for x in found] == [2, None]
  assert [x['every'] for x in found] == [2, 2]


@pytest.mark.parametrize(
  'given, message',
  [
    (
      {'guardrail': '', 'guardrail_delta': 0.2},
      'delta=0.2 would do nothing',
    ),
    ({'guardrail': '', 'guardrail_delta': 0.0}, 'delta=0.0 would do nothing'),
    ({'guardrail': '', 'guardrail_form': 'soft'}, 'would do nothing without a'),
    ({'guardrail': 'gcivl'}, "the head 'gcivl' forbids nothing; pass one"),
    ({'guardrail_penalty': 2.0}, 'of the form hard has no price; leave it out'),
    ({'guardrail_form': 'firm'}, 'guardrail_form must be one of off, soft'),
    ({'guardrail_delta': 1e-6}, 'needs more unsafe latents than its bounds'),
    ({'guardrail_delta': 1.5}, 'guardrail_delta must be above 0 and below 1'),
    ({'guardrail_delta': float('nan')}, 'guardrail_delta must be above 0 and'),
    (
      {'guardrail_form': 'soft', 'guardrail_penalty': -5.0},
      'guardrail_penalty must be finite and at least 0, got -5',
    ),
    (
      {
        'guardrail_form': 'soft',
        'guardrail_delta': 0.3,
        'planner': 'gradient',
      },
      "cannot .* form 'soft'",
    ),
  ],
)
def test_a_guardrail_that_cannot_be_is_a_sentence(
  encoder, trained, given, message
):
  name = {'guardrail': 'safety', **given}.pop('guardrail')
  given = {**given, 'guardrail': str(trained / name) if name else None}
  with pytest.raises(ValueError, match=message):
    recipes.Planning(
      checkpoint=str(encoder), receding_horizon=1, **given
    ).combinations()


def test_a_guardrail_is_part_of_a_result(encoder, trained):
  every = recipes.Planning(
    checkpoint=str(encoder),
    guardrail=str(trained / 'safety'),
    guardrail_form=('off', 'hard'),
    guardrail_delta=0.3,
  ).combinations()
  said = [one.settings.to_dict()['guardrail'] for one in every]
  assert [x['form'] for x in said] == ['off', 'hard']
  found = exports.TrainedHead.load(trained / 'safety')
  for one in said:
    assert one['name'] == f'safety {found.digest[:16]}'
    assert (one['zone'], one['delta']) == (ZONE, 0.3)
  assert every[0].zone is not None and every[0].zone == every[1].zone


@pytest.mark.parametrize('flag', ['upper', 'cost_head', 'proposals'])
def test_a_head_that_is_not_there_is_named_by_its_flag(encoder, tmp_path, flag):
  given = {flag: str(tmp_path / 'none')}
  with pytest.raises(FileNotFoundError, match=f'--{flag}=.*none: no trained'):
    recipes.Planning(checkpoint=str(encoder), **given).combinations()


def test_a_head_whose_encoder_has_moved_is_a_sentence(trained, tmp_path):
  found = exports.TrainedHead.load(trained / 'gcivl')
  dataclasses.replace(found, encoder='runs/gone').save(tmp_path / 'head')
  given = recipes.Planning(planner='policy', checkpoint=str(tmp_path / 'head'))
  with pytest.raises(FileNotFoundError, match='runs/gone, which is not there'):
    given.combinations()


def test_the_folder_of_a_head_brings_its_encoder(encoder, trained):
  given = recipes.Planning(
    planner=('policy', 'fast_slow'), checkpoint=str(trained / 'gcivl')
  )
  for one in given.combinations():
    assert (one.encoder, one.checkpoint) == (str(encoder), given.checkpoint[0])
    assert one.settings.to_dict()['proposals'].startswith('gcivl ')
  acted = {'policy': 3, 'search': 1, 'by_step': [
    {'step': 0, 'policy': 1, 'search': 1},
    {'step': 5, 'policy': 2, 'search': 0},
  ]}  # fmt: skip
  found = record_findings.of({'acted': acted})['who_acted']
  assert found.table.rows == [[0, 1, 1], [5, 2, 0]]
  assert record_findings.of({}) == {}


def test_a_model_that_learnt_a_policy_acts_by_itself(encoder, tmp_path):
  model = small_model.make(
    exports.WorldModel,
    terms={'prediction': {}, 'policy': {'width': 8, 'depth': 1}},
  )
  record = {'config': {'data': {'environment': 'two_room'}}}
  path = tmp_path / 'joint'
  dataclasses.replace(model, record=record).save(path)
  given = recipes.Planning(planner='policy', checkpoint=str(path))
  (one,) = given.combinations()
  assert one.settings.to_dict()['proposals'].startswith('lewm ')
  # A search takes it only where it is asked to.
  (one,) = recipes.Planning(checkpoint=str(path)).combinations()
  assert one.settings.proposals is None
  (one,) = recipes.Planning(
    checkpoint=str(path), proposals=str(path)
  ).combinations()
  assert one.settings.proposals.name.startswith('lewm ')
  root = model.root(model.params, {'pixels': small_model.pixels(2)}, {
    'pixels': small_model.pixels(2, seed=1)
  })  # fmt: skip
  make_fn = one.settings.proposals.make_fn(model.dynamics, model.latent, 3)
  keys = jax.random.split(jax.random.key(0), 2)
  blocks = make_fn(model.params, keys, root)
  assert blocks.shape == (2, 1, 3, 10)
  first = model.model.policy(
    model.params, None, model.latent(root.state), root.goal, None
  )
  np.testing.assert_allclose(blocks[:, 0, 0], first, atol=1e-5)
  for wrong, message in (
    (str(encoder), 'a model without a policy'),
    (str(path), 'has another'),
  ):
    with pytest.raises(ValueError, match=message):
      recipes.Planning(checkpoint=str(encoder), proposals=wrong).combinations()


def test_a_decoder_draws_for_worlds_that_are_played(encoder, trained):
  model = exports.WorldModel.from_checkpoint(encoder)
  given = (model, str(encoder), 'two_room')
  assert planning_heads.imagined(None, model, 'two_room') is None
  with pytest.raises(ValueError, match='draws no pictures'):
    planning_heads.decoder(str(trained / 'probe'), *given)
  other = exports.WorldModel.from_checkpoint('two_room_small')
  with pytest.raises(ValueError, match='two_room_small has another'):
    planning_heads.decoder(
      str(trained / 'decoder'), other, 'two_room_small', 'two_room'
    )


def test_the_strip_has_truth_above_imagination():
  true = np.zeros((2, 3, 8, 8, 3), np.uint8)
  sheet = videos.draw_strip(imagination.Videos(true, true + 200, 5))
  assert sheet.startswith(b'\x89PNG')
  assert videos.draw_gif(imagination.Videos(true, true, 5))[:3] == b'GIF'


@pytest.mark.parametrize('tiny', ['', '_tiny'])
def test_agents_of_recorded_episodes_are_heads(tiny):
  for agent, head in (('gcbc', 'policy'), ('gcidm', 'inverse_dynamics')):
    settings = rl.get_config(agent + tiny)
    assert settings == configs.get_config(head + tiny)


@pytest.mark.parametrize('variant', configs.VARIANTS)
def test_every_variant_is_whole(variant):
  settings = configs.get_config(variant).to_dict()
  assert training_heads.read_head_config(settings).optimizer.num_steps


@pytest.mark.slow
def test_plans_with_proposals_and_draws_what_is_imagined(
  encoder, trained, tmp_path
):
  flags = [
    f'--checkpoint={encoder}',
    f'--out={tmp_path / "out"}',
    f'--proposals={trained / "inverse_dynamics"}',
    f'--decoder={trained / "decoder"}',
    f'--upper={trained / "waypoints"},{trained / "landmarks"}',
    *('--upper_horizon=2', '--horizon=5', '--subgoal_every=2'),
    f'--guardrail={trained / "safety"}',
    *('--guardrail_form=lagrangian', '--guardrail_penalty=2'),
    *('--receding_horizon=1', '--guardrail_delta=0.3'),
    *('--planner=cem', '--num_samples=8', '--num_elites=2'),
    *('--num_iterations=1', '--num_pairs=4'),
  ]
  with given_flags(plan, *flags):
    plan.run(show_progress=False)
  (record,) = json.loads((tmp_path / 'out' / 'results.json').read_text())
  assert record['planner']['proposals'].startswith('inverse_dynamics ')
  upper, top = record['planner']['upper']
  assert upper.pop('name').startswith('waypoints ')
  assert upper == {'horizon': 2, 'every': 2}
  assert top['name'].startswith('landmarks ')
  said = record['planner']['guardrail']
  assert (said['form'], said['penalty']) == ('lagrangian', 2.0)
  came = record['guardrail']
  levels = [x['level'] for x in came['levels']]
  assert levels == ['of the actions', 'above (1)', 'above (2)']
  assert came['num_entered'] == 0 and 0 <= came['levels'][1]['predicted'] <= 1
  page = (tmp_path / 'out' / 'report.html').read_text()
  assert 'What it imagines' in page and 'class="zone"' in page
  assert 'What was forbidden, and what was entered' in page
  assert (tmp_path / 'out' / 'imagination.png').exists()


@pytest.mark.slow
def test_who_acts_and_who_prices_are_in_the_record(trained, tmp_path):
  flags = [
    f'--checkpoint={trained / "gcivl"}',
    f'--cost_head={trained / "gcivl"}',
    f'--out={tmp_path / "out"}',
    *('--planner=policy,fast_slow', '--num_samples=8', '--num_elites=2'),
    *('--num_iterations=1', '--num_pairs=4', '--diagnostics='),
  ]
  with given_flags(plan, *flags):
    plan.run(show_progress=False)
  records = json.loads((tmp_path / 'out' / 'results.json').read_text())
  assert [r['planner']['name'] for r in records] == ['policy', 'fast_slow']
  for record in records:
    assert record['checkpoint'] == str(trained / 'gcivl')
    assert record['planner']['cost_head'].startswith('gcivl ')
    rows = record['acted']['by_step']
    assert [row['step'] for row in rows] == [0, 25]
    assert all(row['policy'] + row['search'] <= 4 for row in rows)
  assert records[0]['acted']['search'] == 0
  page = (tmp_path / 'out' / 'report.html').read_text()
  assert 'Who acted when' in page
