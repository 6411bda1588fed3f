"""Tensors out of files of `torch.save`, and nothing else out of them.

`interop/fixtures/` was written by PyTorch itself: `make_torch_fixtures.py`.
"""

import pathlib
import zipfile

import ml_dtypes
import numpy as np
import pytest

from jepa_wm.data import torch_files

FIXTURES = pathlib.Path(__file__).parents[1] / 'interop' / 'fixtures'
# One float32 tensor [2] over one storage, as PyTorch writes it.
TENSOR = (
  b'ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage'
  b'ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ'
  b'K\x00K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR'
)


def write(path, operations, *, storage=bytes(8), root='archive', **options):
  """A zip container around a pickle written by hand."""
  with zipfile.ZipFile(path, 'w', **options) as container:
    container.writestr(f'{root}/data.pkl', b'\x80\x02' + operations + b'.')
    container.writestr(f'{root}/byteorder', b'little')
    container.writestr(f'{root}/data/0', storage)
  return path


@pytest.fixture(scope='module')
def containers():
  return torch_files.read(FIXTURES / 'containers.pt')


def test_containers_and_scalars(containers):
  scalars = [3, -5, 2**40, -(2**80), 0.1, None, True, False, 'text', ()]
  assert containers['scalars'] == scalars
  assert [type(x) for x in containers['scalars']] == [type(x) for x in scalars]
  assert containers['pair'] == (1, ('x', [2]))
  assert containers[7] == 'a number for a key'
  np.testing.assert_array_equal(containers['parameter'], [0.0, 1.0, 2.0])


def test_dtypes(containers):
  tensors = containers['dtypes']
  assert len(tensors) == 17
  for name, tensor in tensors.items():
    assert tensor.dtype == np.dtype(getattr(ml_dtypes, name, name)), name
    values = [0, 1, 1] if name == 'bool' else [0, 1, 3]
    np.testing.assert_array_equal(tensor.astype(np.complex128), values)


def test_strides_offsets_and_shared_storage(containers):
  base = np.arange(24, dtype=np.float32)
  expected = {
    'whole': base,
    'matrix': base.reshape(4, 6),
    'transposed': base.reshape(4, 6).T,
    'permuted': base.reshape(2, 3, 4).transpose(2, 0, 1),
    'strided': base[3::5],
    'corner': base.reshape(4, 6)[1:3, 2:4],
    'expanded': np.broadcast_to(base[7], (2, 3)),
    'scalar': base[9],
    'empty': np.zeros((0, 3), np.float32),
  }
  views = containers['views']
  assert list(views) == list(expected)
  for name, tensor in views.items():
    assert tensor.shape == expected[name].shape, name
    np.testing.assert_array_equal(tensor, expected[name], err_msg=name)
    assert not tensor.size or np.shares_memory(tensor, views['whole']), name
  with pytest.raises(ValueError, match='read-only'):
    views['whole'][0] = 1


def test_a_command_is_refused_and_not_executed(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=r"'posix.system'.*nothing was executed"):
    torch_files.read(FIXTURES / 'malicious.pt')
  assert not list(tmp_path.iterdir())


def test_a_pickled_module_is_refused():
  with pytest.raises(ValueError, match=r"asks for 'torch.nn.modules.linear.Li"):
    torch_files.read(FIXTURES / 'module.pt')


COMMAND = b'X\x0e\x00\x00\x00touch executed'


@pytest.mark.parametrize(
  ('operations', 'message'),
  [
    (b'cos\nsystem\n(' + COMMAND + b'tR', "asks for 'os.system'"),
    # Behind a tensor that is all right, and never called.
    (TENSOR + b'cbuiltins\neval\n', "asks for 'builtins.eval'"),
    (b'\x8c\x02os\x8c\x06system\x93' + COMMAND + b'\x85R', "'os.system'"),
    (b'(' + COMMAND + b'ios\nsystem\n', "operation INST of 'os system'"),
    # A permitted room, but another name in it; a permitted name, extended.
    (b'ctorch\nload\n', "asks for 'torch.load'"),
    (b'ctorch._utils\n_rebuild_tensor_v2.__globals__\n', '__globals__'),
    (b'ccollections\nOrderedDict\n)\x81', 'operation NEWOBJ'),
    (b'\x82\x01', 'operation EXT1'),
    (b'Pstorage\n', "operation PERSID of 'storage'"),
    # Permitted names called with something else than PyTorch would.
    (b'ctorch\nFloatStorage\n)R', 'is damaged'),
    (b'ccollections\nOrderedDict\n((K\x01K\x02ttR', 'is damaged'),
    (b'K\x01K\x02R', 'is damaged'),
    (b'}(K\x01u', 'is damaged'),
    (b'}}K\x01s', 'is damaged'),
    (b'h\x07', 'is damaged'),
    (TENSOR + b'}b', 'is damaged'),
    (
      TENSOR.replace(b'K\x02\x85K\x01', b'K\x03\x85K\x01'),
      'beyond its 8 bytes',
    ),
    (
      TENSOR.replace(b'K\x02\x85K\x01', b'K\x02\x85K\x02'),
      'beyond its 8 bytes',
    ),
    (TENSOR.replace(b'QK\x00', b'QK\x01'), 'beyond its 8 bytes'),
    (
      TENSOR.replace(b'QK\x00', b'QJ\xff\xff\xff\xff'),
      'is damaged',
    ),
    (TENSOR.replace(b'\x000X', b'\x001X'), "record 'data/1' is missing"),
  ],
)
def test_pickles_written_by_hand(tmp_path, monkeypatch, operations, message):
  monkeypatch.chdir(tmp_path)
  path = write(tmp_path / 'x.pt', operations)
  with pytest.raises(ValueError, match=message):
    torch_files.read(path)
  assert list(tmp_path.iterdir()) == [path]


def test_a_lazily_conjugated_tensor_is_refused():
  with pytest.raises(ValueError, match=r'conjugated or negated.*resolve_conj'):
    torch_files.read(FIXTURES / 'conjugated.pt')


def test_files_that_are_no_whole_containers(tmp_path):
  path, whole = tmp_path / 'x.pt', (FIXTURES / 'containers.pt').read_bytes()
  for length in (len(whole) - 1, len(whole) // 2, 40):
    path.write_bytes(whole[:length])
    with pytest.raises(ValueError, match='end of the zip container is missing'):
      torch_files.read(path)
  with pytest.raises(ValueError, match=r'legacy.pt: .*before PyTorch 1.6'):
    torch_files.read(FIXTURES / 'legacy.pt')
  for content in (b'', b'<html>not found</html>'):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'not a file of torch.save'):
      torch_files.read(path)
  with pytest.raises(FileNotFoundError, match=r'nowhere.pt: no such file'):
    torch_files.read(tmp_path / 'nowhere.pt')
  with zipfile.ZipFile(path, 'w') as container:
    container.writestr('a/readme', b'')
  with pytest.raises(ValueError, match='it has 0'):
    torch_files.read(path)


def test_records_out_of_the_ordinary(tmp_path):
  path = tmp_path / 'x.pt'
  write(path, TENSOR, compression=zipfile.ZIP_DEFLATED)
  with pytest.raises(
    ValueError, match=r'compressed, which torch.save does not'
  ):
    torch_files.read(path)
  whole = write(path, TENSOR).read_bytes()
  path.write_bytes(whole.replace(b'little', b'BIGBIG'))
  with pytest.raises(ValueError, match="byte order 'BIGBIG', only little"):
    torch_files.read(path)
  # The directory says where records begin; here, four bytes too late.
  path.write_bytes(whole[4:])
  with pytest.raises(ValueError, match='not where the directory says'):
    torch_files.read(path)
  assert torch_files.read(write(path, TENSOR)).shape == (2,)


@pytest.mark.parametrize(
  ('operations', 'key'),
  [
    (b'}NK\x01s', None),
    (b'}K\x01K\x02\x86K\x01s', (1, 2)),
    (b'}\x88K\x01s', 1),
  ],
)
def test_keys_are_what_python_allows(tmp_path, operations, key):
  assert torch_files.read(write(tmp_path / 'x.pt', operations)) == {key: 1}


def test_an_expanded_tensor_that_would_fill_the_memory(tmp_path):
  operations = TENSOR.replace(
    b'K\x02\x85K\x01\x85', b'\x8a\x06' + bytes(5) + b'\x01\x85K\x00\x85'
  )
  with pytest.raises(ValueError, match=r'claims to hold 4096\.0 GiB'):
    torch_files.read(write(tmp_path / 'x.pt', operations))


def test_pointers_of_git_lfs_are_named(tmp_path):
  path = tmp_path / 'x.pt'
  path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:4d\n')
  for read in (torch_files.read, torch_files.read_plain):
    with pytest.raises(ValueError, match=r'x\.pt is a git-lfs pointer'):
      read(path)


LAUGHS = b')' + b''.join(b'q\x01h\x01h\x01\x87' for _ in range(60))


@pytest.mark.parametrize(
  'operations',
  [
    b'}' + LAUGHS + b'K\x01s',
    b'ctorch\nFloatStorage\n' + LAUGHS + b'R',
    LAUGHS + b'X\x01\x00\x00\x00a\x93',
    LAUGHS + b'Q',
    TENSOR.replace(b'K\x02\x85K\x01\x85', LAUGHS + b'K\x01\x85'),
    b']' * 100_000 + b'a' * 99_999 + b'K\x01R',
  ],
)
def test_tuples_of_tuples_of_tuples_are_not_walked(tmp_path, operations):
  with pytest.raises(ValueError, match='is damaged'):
    torch_files.read(write(tmp_path / 'x.pt', operations))
