import json

import pytest

from jepa_wm import signed

CONTENT = {'rate': 0.1, 'none': None, 'list': [1, float('nan')], 'a': 'b'}


def test_what_was_signed_is_read(tmp_path):
  path = tmp_path / 'file.json'
  path.write_text(json.dumps(signed.sign({'rate': 0.1, 'list': [1, None]})))
  assert signed.read(path) == {'rate': 0.1, 'list': [1, None]}
  path.write_text(json.dumps(signed.sign(CONTENT), indent=2))
  assert str(signed.read(path)) == str(CONTENT)


@pytest.mark.parametrize(
  'change',
  [{'rate': 0.2}, {'more': 1}, {'sha256': 'f' * 64}, {'sha256': None}],
)
def test_what_was_changed_is_refused(tmp_path, change):
  path = tmp_path / 'file.json'
  path.write_text(json.dumps(signed.sign(CONTENT) | change))
  with pytest.raises(ValueError, match='changed after it was made'):
    signed.read(path)


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"rate": 1}', 'null'])
def test_what_was_never_signed_is_refused(tmp_path, text):
  path = tmp_path / 'file.json'
  path.write_text(text)
  with pytest.raises(ValueError, match='cut off or damaged'):
    signed.read(path)
