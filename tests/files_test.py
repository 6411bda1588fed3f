import errno
import hashlib
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import files, renames


def test_a_file_is_replaced_whole(tmp_path):
  path = tmp_path / 'new' / 'results.json'
  files.write_whole(path, 'é\n')
  assert path.read_bytes() == 'é\n'.encode()
  files.write_whole(path, b'\x00\xff')
  assert path.read_bytes() == b'\x00\xff'
  assert os.listdir(path.parent) == ['results.json']


def _full(*arguments):
  raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_that_cannot_be_written_is_as_it_was(tmp_path, monkeypatch):
  path = tmp_path / 'results.json'
  path.write_text('old')
  monkeypatch.setattr(os, 'replace', _full)
  with pytest.raises(OSError, match=r'Cannot write: No space.*results\.json'):
    files.write_whole(path, 'new')
  assert path.read_text() == 'old'
  assert os.listdir(tmp_path) == ['results.json']
  with pytest.raises(OSError, match=r"exists: '.*results\.json'$"):
    files.write_whole(path / 'below', 'new')


def test_a_folder_is_replaced_whole(tmp_path):
  path = tmp_path / 'a' / 'run'
  for names in (['x', 'y'], ['z']):
    with files.folder_written_whole(path) as folder:
      assert os.listdir(folder) == []
      for name in names:
        (folder / name).write_text(name)
    assert sorted(os.listdir(path)) == names
  assert os.listdir(path.parent) == ['run']


@pytest.mark.parametrize('error', [KeyboardInterrupt(), ValueError('no')])
def test_a_folder_cut_short_leaves_what_was_there(tmp_path, error):
  path = tmp_path / 'run'
  for _ in range(2):
    with (
      pytest.raises(type(error)),
      files.folder_written_whole(path) as folder,
    ):
      (folder / 'half').write_text('half')
      raise error
    assert os.listdir(tmp_path) == []
  path.mkdir()
  with pytest.raises(type(error)), files.folder_written_whole(path):
    raise error
  assert os.listdir(tmp_path) == ['run']


def test_a_full_disk_is_about_the_folder_that_was_asked_for(tmp_path):
  path = tmp_path / 'run'

  def fail(error):
    with files.folder_written_whole(path):
      raise error

  full = OSError(errno.ENOSPC, 'No space left')
  with pytest.raises(OSError, match=r"Cannot write: No space left: '.*/run'"):
    fail(full)
  # What the block says itself, or of what it reads, stays as it is.
  for error in (OSError('no disk'), OSError(errno.ENOENT, 'No', 'other')):
    with pytest.raises(OSError) as raised:
      fail(error)
    assert raised.value is error


def test_killed_between_the_renamings_the_old_folder_comes_back(tmp_path):
  path = tmp_path / 'run'
  (tmp_path / '.run.replaced').mkdir()
  (tmp_path / '.run.replaced' / 'old').write_text('old')
  with pytest.raises(ValueError), files.folder_written_whole(path):
    raise ValueError
  assert (path / 'old').read_text() == 'old'


def test_two_folders_change_places_at_once(tmp_path, monkeypatch):
  path = tmp_path / 'run'
  for content, can in (('old', True), ('new', True), ('newest', False)):
    monkeypatch.setattr(renames, 'exchange', renames.exchange if can else _no)
    (tmp_path / 'beside').mkdir()
    (tmp_path / 'beside' / content).touch()
    files.replace_folder(tmp_path / 'beside', path)
    assert os.listdir(path) == [content]
    assert os.listdir(tmp_path) == ['run']


def _no(*folders):
  return False


def test_what_a_killed_writer_left_is_removed(tmp_path):
  killed = subprocess.run(
    [sys.executable, '-c', 'import os; print(os.getpid())'],
    capture_output=True,
    check=True,
    text=True,
  ).stdout.strip()
  left = [tmp_path / f'.a.json.{x}.writing' for x in (killed, os.getpid(), 1)]
  for path in left:
    path.touch()
  (tmp_path / f'.b.json.{killed}.writing').mkdir()
  files.write_whole(tmp_path / 'b.json', 'b')
  assert left[0].exists()
  files.write_whole(tmp_path / 'a.json', 'a')
  # Our own is what was written.
  assert sorted(tmp_path.iterdir()) == sorted(
    [tmp_path / 'a.json', tmp_path / 'b.json', left[2]]
  )
  with renames.open_own(left[0]):
    files.write_whole(tmp_path / 'a.json', 'a')
  assert left[0].exists()


def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(tmp_path):
  path = tmp_path / 'run'
  path.mkdir()
  with pytest.raises(FileNotFoundError):
    files.replace_folder(tmp_path / 'nothing', path)
  assert os.listdir(tmp_path) == ['run']
  files.remove_folder(path)
  assert os.listdir(tmp_path) == []


def test_digests_are_those_of_the_bytes_in_a_row(tmp_path):
  rows = np.arange(6, dtype=np.float32).reshape(2, 3)
  expected = hashlib.sha256('é'.encode() + b'\x00' + rows.tobytes())
  assert files.digest('é', b'\x00', rows) == expected.hexdigest()
  assert files.digest('é', b'\x00', jnp.asarray(rows)) == expected.hexdigest()
  assert files.digest(rows.T) == files.digest(rows.T.copy())
  half = jnp.ones(3, jnp.bfloat16)
  assert files.digest(half) == files.digest(np.asarray(half).tobytes())
  (tmp_path / 'file').write_bytes(b'ab' * 100_000)
  assert files.digest_file(tmp_path / 'file') == files.digest(b'ab' * 100_000)


def test_the_digest_of_json_does_not_know_an_order():
  content = {'b': [1, None], 'a': {'y': 1.5, 'x': 'é'}}
  text = r'{"a":{"x":"\u00e9","y":1.5},"b":[1,null]}'
  assert files.digest_json(content) == files.digest(text)
  assert files.digest_json({'b': 1}) != files.digest_json({'b': 2})


def test_the_nearest_name():
  assert files.nearest('lwem', ['lewm', 'pldm']) == " Did you mean 'lewm'?"
  assert files.nearest('zzz', ['lewm']) == files.nearest(None, []) == ''


def test_reading_what_others_left(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert files.expand('~/data') == tmp_path / 'data'
  assert files.expand('a/~') == files.pathlib.Path('a/~')
  (tmp_path / 'info.json').write_bytes(b'\xef\xbb\xbf{"a": 1}')
  (tmp_path / '._info.json').write_bytes(b'\xff\xfe')
  assert [p.name for p in files.visible(sorted(tmp_path.iterdir()))] == [
    'info.json'
  ]
  assert files.read_json(tmp_path / 'info.json') == {'a': 1}
  assert files.read_json(tmp_path / 'info.json', pairs=True) == [('a', 1)]
  with pytest.raises(ValueError, match=r'_info\.json is cut off .*utf-8'):
    files.read_json(tmp_path / '._info.json')
  with pytest.raises(FileNotFoundError, match=r'nowhere\.json: no such file'):
    files.read_json(tmp_path / 'nowhere.json')
  for text in ('', '{', '[' * 100_000):
    (tmp_path / 'info.json').write_text(text)
    with pytest.raises(ValueError, match=r'info\.json is cut off or damaged'):
      files.read_json(tmp_path / 'info.json')
  lines = '"a\u2028b"\r\n\n"c\x85d"'
  (tmp_path / 'a.jsonl').write_text(lines, encoding='utf-8', newline='')
  assert files.read_json_lines(tmp_path / 'a.jsonl') == [
    'a\u2028b',
    'c\x85d',
  ]


def test_pointers_of_git_lfs_are_known(tmp_path):
  path = tmp_path / 'clip.mp4'
  path.write_text(
    'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'
  )
  assert files.is_lfs_pointer(path)
  with pytest.raises(
    ValueError, match=r'clip\.mp4 is a git-lfs .*git lfs pull'
  ):
    files.read_json(path)
  path.write_bytes(b'')
  assert not files.is_lfs_pointer(path)


def test_a_link_is_written_through(tmp_path):
  (tmp_path / 'disk').mkdir()
  for name, target in (('link', 'disk'), ('new', 'elsewhere')):
    link = tmp_path / name
    link.symlink_to(tmp_path / target)
    for content in 'ab':
      with files.folder_written_whole(link) as folder:
        (folder / 'x').write_text(content)
      assert link.is_symlink()
      assert (tmp_path / target / 'x').read_text() == content
  (tmp_path / 'a').symlink_to(tmp_path / 'disk' / 'x')
  files.write_whole(tmp_path / 'a', 'c')
  assert (tmp_path / 'disk' / 'x').read_text() == 'c'
  assert sorted(os.listdir(tmp_path)) == [
    *('a', 'disk', 'elsewhere', 'link', 'new'),
  ]


def test_what_others_wrote_is_not_replaced(tmp_path):
  is_ours = 'config.json'.__eq__
  files.check_replaceable(tmp_path / 'new', is_ours)
  for name in ('config.json', '._config.json', '.DS_Store', '.cache.partial'):
    (tmp_path / name).touch()
  files.check_replaceable(tmp_path, is_ours)
  (tmp_path / '.git').mkdir()
  with pytest.raises(FileExistsError, match=r'holds \.git, which is not of'):
    files.check_replaceable(tmp_path, is_ours)
  with pytest.raises(FileExistsError, match='is a file'):
    files.check_replaceable(tmp_path / 'config.json', is_ours)


def test_homes_are_found_or_named(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  files.write_whole('~/x', 'a')
  with files.folder_written_whole('~/folder'):
    pass
  assert sorted(os.listdir(tmp_path)) == ['folder', 'x']
  with pytest.raises(ValueError, match='~nobody_/x: there is no such home'):
    files.expand('~nobody_/x')
  for path in ('gs://runs/one', files.pathlib.Path('s3://runs')):
    with pytest.raises(ValueError, match=r'names a bucket .*mount it'):
      files.expand(path)
  for path in ('a\0b', 'a\udcff'):
    with pytest.raises(ValueError, match='is no path; name it in letters'):
      files.expand(path)
