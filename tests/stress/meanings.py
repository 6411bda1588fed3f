"""What odd values of flags mean where they are taken, by kind of value.

Whatever is not here is refused in a sentence; `bad_flags_test` holds to it.
"""

import re

_SEED = {'zero', 'billion', 'negative'}
_NAME = {'unknown', 'format', 'letters', 'number'}
_LIST = {'empty', 'blank', 'commas', 'none'}
_ANY_TEXT = {
  *('empty', 'blank', 'unknown', 'traversal', 'device', 'long', 'format'),
  *('letters', 'number', 'bucket', 'home'),
}

MEANINGS: list[tuple[str, set[str], str]] = [
  (r'\w+ (config\.)?seed', _SEED, 'any whole number is one'),
  (r'\w+ (out|workdir)', _NAME | {'traversal'}, 'any may be a folder'),
  (r'\w+ (shift|upper|guardrail_form|diagnostics|agents_plan)', _LIST,
   'none'),
  (r'\w+ (proprio|state|rows|units|study)', _LIST, 'none'),
  (r'collect\w* min_episode_length', {'zero'}, 'every episode is kept'),
  (r'collect\w* (action_noise|held_out_fraction)', {'zero'}, 'none'),
  (r'convert image_size', {'zero'}, 'the size of the source'),
  (r'convert held_out_fraction', {'zero'}, 'nothing is held out'),
  (r'convert max_cache_gb', {'zero', 'huge', 'beyond_float32'}, 'a size'),
  (r'plan\w* batch_size', {'billion'}, 'all problems at once'),
  (r'\w+ subgoal_every', {'billion'}, 'one to the end'),
  (r'ablate_study config', {'empty'}, 'none, beside a study'),
  (r'probe width', {'zero'}, 'tokens as they come'),
  (r'probe weight_decays', {'zero'}, 'none'),
  (r'export\w* (action_low|action_high)', {'zero'}, 'a bound'),
  (r'\w+ config\.(evals|data\.weights)', _LIST, 'nothing; equal ones'),
  (r'\w+ config\.(frozen_encoder|initialise_from)', {'empty'}, 'none'),
  (r'\w+ config\.(checkpoint|eval|log)_every', {'billion'}, 'at the end'),
  (r'\w+ config\.keep_checkpoints', {'billion'}, 'all'),
  (r'\w+ config\.head\.max_steps', {'billion'}, 'episodes of any length'),
  (r'train_agent config\.agent\.(environment|reach_by)', {'empty'}, 'the own'),
  (r'train_online config\.online\.(shift|episodes|value)', {'empty'}, 'none'),
  (r'\w+ config\.num_steps', {'billion'}, 'a long run'),
  (r'\w+ config\.checkpoint_seconds', {'zero'}, 'after every step'),
  (r'\w+ config\.data\.(num_episodes|num_frames)', {'zero'}, 'all'),
  (r'\w+ config\.data\.action_noise', {'zero'}, 'none'),
  # Whose fields are of another source: a sentence says that it does nothing.
  (r'\w+ config\.data\.environment', _ANY_TEXT - {'empty', 'blank'}, 'unread'),
  (r'train_masked config\.data\.path', _ANY_TEXT, 'unread'),
  (r'\w+ config\.(augmentation|optimizer|head|agent|online|model)\..*',
   {'zero'}, 'none of it'),
]  # fmt: skip
"""Command and flag, kinds of value that mean something, and what."""


def meaning(door: str, flag: str, kind: str) -> str:
  """What a value of that kind means; '' where it means nothing."""
  for pattern, kinds, meant in MEANINGS:
    if kind in kinds and re.fullmatch(pattern, f'{door} {flag}'):
      return meant
  return ''
