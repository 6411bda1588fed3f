import re

from jepa_wm import provenance


def test_versions_are_numbers():
  versions = provenance.versions()
  assert {'python', 'jepa-wm', 'jax', 'numpy'} <= set(versions)
  assert all(re.match(r'\d+\.\d+', v) for v in versions.values())


def test_commit_is_a_hash_or_nothing():
  commit = provenance.commit()
  assert commit is None or re.fullmatch(r'[0-9a-f]{40}(-dirty)?', commit)


def test_an_installed_copy_has_no_commit(tmp_path, monkeypatch):
  """One that lies in a checkout of something else, or in none."""
  monkeypatch.setattr(provenance, '__file__', str(tmp_path / 'provenance.py'))
  assert provenance.commit() is None
