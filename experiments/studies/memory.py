"""Memory: what a predictor keeps of a cue, by how long ago it was seen.

Our own study. All predictors learn on the frozen latents of one encoder and
over whole episodes of 225 frames; in closed loop each follows an episode by its
own state (`--memory=state`). The cue decides which arm of a T-maze leads to the
goal's picture, so that who forgets it succeeds half of the time. Beside them
stands what LeWorldModel-Memory reads off its states by a probe.
"""

from typing import Any

from jepa_wm.recipes import study
from jepa_wm.recipes.study import Published, Row, Size, Study

GAPS = 5, 20, 50, 200
"""Steps from the cue to the gate, beside 100."""

_PLAN = {
  'memory': 'state',
  'num_pairs': 50,
  'planner': 'icem',
  'options': {'num_samples': 64, 'num_elites': 8, 'num_iterations': 3},
  'diagnostics': (),
}


def _read(says: str) -> Published:
  source = 'LeWorldModel-Memory, docs/RESULTS.md, T-maze, gap 21, one seed'
  return Published(says=says, source=source, hand='second')


def _predictor(name: str, **fields: Any) -> dict[str, Any]:
  """Fields of the config that choose a predictor."""
  own = {f'model.predictor.{key}': x for key, x in fields.items()}
  return {'model.predictor.name': name, **own}


def _memory(name: str) -> dict[str, str]:
  """How a row follows an episode; there is no state that is one frame."""
  return {'memory': 'frames'} if name == 'window 1' else {}


_PREDICTORS: dict[str, tuple[dict[str, Any], Published | None]] = {
  'hybrid': (_predictor('hybrid'), None),
  'window 1': (
    _predictor('causal', history=1),
    _read('cue decodable 0.44 from the latent'),
  ),
  'window 3': (_predictor('causal', history=3), None),
  'GRU': (_predictor('recurrent', memory_dim=64), None),
  'banks': (
    _predictor('banks'),
    _read('cue decodable 1.00 from the slow bank'),
  ),
  'Gated DeltaNet': ({'model.predictor.linear_every': 1}, None),
}

study.STUDIES.register(
  Study(
    name='memory/t_maze',
    question='Who remembers which arm is right, and for how long?',
    source='no paper; LeWorldModel-Memory reads the cue off its states',
    reference='hybrid',
    rows={
      **{
        name: Row(
          start='encoder',
          train=changes,
          plan=_memory(name),
          published=published,
        )
        for name, (changes, published) in _PREDICTORS.items()
      },
      # Short gaps, so that there is much to see in few frames.
      'encoder': Row(
        config={'small': 'memory.py:t_maze_encoder'},
        data={'environment': 't_maze_8', 'episode_length': 32},
      ),
      **{
        f'{name}, gap {gap}': Row(
          of=name, plan={'environment': f't_maze_{gap}', **_memory(name)}
        )
        for gap in GAPS
        for name in _PREDICTORS
      },
    },
    sizes={
      'small': Size(
        config='memory.py:t_maze',
        data={
          'environment': 't_maze',
          'policy': 'either',
          'stop_at_success': False,
          'episode_length': 224,
          'num_episodes': 800,
        },
        plan={'environment': 't_maze_100', **_PLAN},
        minutes=3.0,
      )
    },
    metrics=('held_out/prediction_error',),
    differs={
      'small': 'The peer probes states at the decision step of its own T-maze; '
      'here is success of planning, after a gap of 100 steps where no other is '
      'named. The encoder, trained on four frames at a time, plans by its own '
      'window of three.'
    },
  )
)

study.STUDIES.register(
  Study(
    name='memory/two_room',
    question='Does memory cost anything where none is needed?',
    source='no paper; LeWorldModel-Memory: validation error 0.478 with and '
    'without its banks',
    reference='window 3',
    rows={
      'window 3': Row(published=_read('validation error 0.478')),
      'hybrid': Row(
        train=_predictor('hybrid', history=5, linear_every=2),
        published=_read('validation error 0.478'),
      ),
    },
    sizes={
      'small': Size(
        config='memory.py:two_room',
        data={'environment': 'two_room', 'num_episodes': 600},
        plan={'environment': 'two_room', **_PLAN},
        minutes=3.0,
      )
    },
    metrics=('held_out/prediction_error', 'held_out/rollout_error'),
    differs={
      'small': 'Predictors on the frozen latents of two_room_small, which '
      'ships; the peer has its own Two Room.'
    },
  )
)
