import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest
import toy_process

from experiments import ending
from jepa_wm import joining, last_words, launchers, processes, sharding
from jepa_wm.training import metrics

ROOT = pathlib.Path(__file__).parents[1]
NUM_STEPS = 24

LAUNCHERS = {
  'JAX_COORDINATOR_ADDRESS': None,
  'SLURM_STEP_NUM_TASKS': '1',
  'OMPI_COMM_WORLD_SIZE': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
}


@pytest.fixture
def joined(monkeypatch):
  """What `jax.distributed.initialize` was called with."""
  calls = []
  for name, value in LAUNCHERS.items():
    if value is None:
      monkeypatch.delenv(name, raising=False)
    else:
      monkeypatch.setenv(name, value)
  for name in ('look_up', 'wait_for', 'check_free'):
    monkeypatch.setattr(joining, name, lambda *args: None)
  monkeypatch.setattr(
    jax.distributed, 'initialize', lambda **kwargs: calls.append(kwargs)
  )
  yield calls
  jax.config.update('jax_cpu_enable_async_dispatch', True)


def test_a_process_alone_joins_nobody(joined):
  processes.initialize()
  assert joined == []


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('JAX_COORDINATOR_ADDRESS', 'localhost:1234'),
    ('SLURM_STEP_NUM_TASKS', '2'),
    ('OMPI_COMM_WORLD_SIZE', '16'),
    ('TPU_WORKER_HOSTNAMES', 'host-0,host-1'),
  ],
)
def test_a_launcher_makes_processes_join(joined, monkeypatch, name, value):
  monkeypatch.setenv(name, value)
  processes.initialize()
  monkeypatch.setenv('JAX_NUM_PROCESSES', '4')
  monkeypatch.setenv('JAX_PROCESS_ID', '3')
  processes.initialize()
  given = ('num_processes', 'process_id')
  assert [{name: call[name] for name in given} for call in joined] == [
    {'num_processes': None, 'process_id': None},
    {'num_processes': 4, 'process_id': 3},
  ]
  # Else a run of several on CPUs comes to a stand now and then.
  assert not jax.config.read('jax_cpu_enable_async_dispatch')
  monkeypatch.setenv('JAX_PROCESS_ID', 'three')
  with pytest.raises(ValueError, match='JAX_PROCESS_ID must be a number'):
    processes.initialize()


def test_half_of_the_variables_are_refused(joined, monkeypatch):
  monkeypatch.setenv('JAX_NUM_PROCESSES', '2')
  with pytest.raises(ValueError, match='JAX_COORDINATOR_ADDRESS is not set'):
    processes.initialize()
  monkeypatch.undo()
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', 'nowhere')
  monkeypatch.setenv('JAX_PROCESS_ID', '1')
  with pytest.raises(ValueError, match="must be host:port, got 'nowhere'"):
    processes.initialize()
  monkeypatch.setattr(launchers, 'join_seconds', lambda: 0.1)
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', 'localhost:9')
  monkeypatch.setenv('JAX_NUM_PROCESSES', '2')
  with pytest.raises(ValueError, match=r'Nobody answers at .*localhost:9'):
    processes.initialize()


@pytest.mark.parametrize('index', ['0', '1'])
@pytest.mark.parametrize('address', ['nonsense', 'a:', 'a:b', 'a:0', 'a:99999'])
def test_no_process_takes_what_is_no_address(
  joined, monkeypatch, address, index
):
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', address)
  monkeypatch.setenv('JAX_NUM_PROCESSES', '2')
  monkeypatch.setenv('JAX_PROCESS_ID', index)
  with pytest.raises(ValueError, match=rf"host:port, got '{address}'.*65535"):
    processes.initialize()


def test_a_number_beyond_the_last_process_is_refused(joined, monkeypatch):
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', 'localhost:1234')
  monkeypatch.setenv('JAX_NUM_PROCESSES', '2')
  monkeypatch.setenv('JAX_PROCESS_ID', '2')
  with pytest.raises(ValueError, match='below JAX_NUM_PROCESSES=2, got 2'):
    processes.initialize()
  assert joined == []


def test_a_port_of_another_program_is_refused():
  with socket.create_server(('localhost', 0)) as other:
    port = other.getsockname()[1]
    with pytest.raises(ValueError, match=f'Port {port} .*another program'):
      joining.check_free(port)
  joining.check_free(port)


def test_what_the_runtime_refuses_is_a_sentence(joined, monkeypatch):
  def refuse(**kwargs):
    raise jax.errors.JaxRuntimeError('UNKNOWN: Failed to start it\na page')

  monkeypatch.setattr(jax.distributed, 'initialize', refuse)
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', 'localhost:1234')
  monkeypatch.setenv('JAX_NUM_PROCESSES', '2')
  monkeypatch.setenv('JAX_PROCESS_ID', '0')
  with pytest.raises(ValueError, match=r'Failed to start it\); choose a port'):
    processes.initialize()


@pytest.mark.parametrize('index', [0, 1])
def test_the_first_says_for_whom_it_waits(joined, monkeypatch, capsys, index):
  monkeypatch.setattr(
    jax.distributed, 'initialize', lambda **kwargs: time.sleep(0.3)
  )
  monkeypatch.setattr(joining, '_PATIENCE_SECONDS', 0.0)
  monkeypatch.setenv('JEPA_WM_JOIN_SECONDS', '7')
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', 'localhost:1234')
  monkeypatch.setenv('JAX_NUM_PROCESSES', '4')
  monkeypatch.setenv('JAX_PROCESS_ID', str(index))
  processes.initialize()
  said = 'Waits for 3 more of 4 processes at localhost:1234, up to 7 s.\n'
  assert capsys.readouterr().err == ('' if index else said)


def test_others_say_that_they_wait_for_the_first(monkeypatch, capsys):
  monkeypatch.setattr(joining, '_PATIENCE_SECONDS', 0.0)
  with pytest.raises(ValueError, match='Nobody answers'):
    joining.wait_for('localhost', 9, 0.1)
  said = 'Waits for process 0 at localhost:9, up to 0.1 s.\n'
  assert capsys.readouterr().err == said


def test_a_host_that_is_not_known_is_told_at_once(monkeypatch, capsys):
  def unknown(*args):
    raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')

  monkeypatch.setattr(socket, 'getaddrinfo', unknown)
  joining.look_up('nodee0', 1234)
  assert 'nodee0:1234 is not known here' in capsys.readouterr().err


class Left(BaseException):
  """What `os._exit` does to a test."""


@pytest.mark.parametrize('where', ['before it joined', 'before a step'])
def test_ctrl_c_ends_one_of_several_with_its_code(monkeypatch, capsys, where):
  def leave(code):
    raise Left(code)

  def begin(words, own):
    if where == 'before it joined':
      raise KeyboardInterrupt

  monkeypatch.setattr(os, '_exit', leave)
  monkeypatch.setattr(launchers, 'has_company', lambda: True)
  monkeypatch.setattr(processes, '_listened_to', lambda: sys.stderr)
  monkeypatch.setattr(processes, '_begin', begin)
  with (
    pytest.raises(Left, match='130'),
    processes.joined([]),
    ending.one_sentence('Interrupted; nothing is lost.'),
  ):
    raise KeyboardInterrupt
  said = capsys.readouterr().err
  assert said.startswith('Interrupted') and said.count('\n') == 1


def test_the_place_of_a_process_is_what_its_launcher_says(monkeypatch):
  for name in LAUNCHERS:
    monkeypatch.delenv(name, raising=False)
  assert launchers.place() == (0, 1)
  monkeypatch.setenv('TPU_WORKER_HOSTNAMES', 'a,b,c')
  monkeypatch.setenv('TPU_WORKER_ID', '2')
  assert launchers.place() == (2, 3)
  monkeypatch.setenv('SLURM_PROCID', '5')
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '8')
  assert launchers.place() == (5, 8)
  assert not {'SLURM_PROCID', 'TPU_WORKER_ID'} & launchers.apart().keys()
  assert 'PATH' in launchers.apart()


def test_hosts_of_a_tpu_slice_find_each_other(joined, monkeypatch):
  hosts = launchers.cloud_tpu_cluster.GceTpuCluster
  monkeypatch.setattr(hosts, 'is_env_present', lambda: True)
  for count in (1, 4):
    launchers._is_in_slice.cache_clear()
    monkeypatch.setattr(hosts, 'get_process_count', lambda count=count: count)
    processes.initialize()
    assert len(joined) == (count > 1)
  launchers._is_in_slice.cache_clear()


def test_alone_nobody_is_waited_for():
  assert processes.from_first(lambda: [1]) == [1]
  assert processes.gather('x') == ['x']
  assert processes.is_first() and sharding.is_alone()
  processes.check_alone('This')
  with processes.joined([]):
    pass


@pytest.mark.parametrize(
  ('text', 'said'),
  [
    (
      'E1129 17:41:36.1 9 coordination_service.cc:1549] Use error polling to '
      'propagate: unhealthy (stopped sending heartbeats):\n3\nThe tasks have',
      'since process 3 of this run is lost',
    ),
    (
      'F1129 17:41:36.1 9 client.h:80] Terminating process because the JAX '
      'distributed service detected fatal errors. the leader task was gone',
      'since process 0 of this run is lost',
    ),
    (f'{last_words.LOST}\n', 'since another process of this run is lost'),
    (
      'F1129 17:41:36.1 9 client.h:80] Terminating process because the JAX '
      'distributed service detected fatal errors. DEADLINE_EXCEEDED\n\nRPC: '
      '/xla.coordination.CoordinationService/RegisterTask',
      'one that is given twice leaves another out',
    ),
    (
      'E1129 17:41:36.1 9 coordination_service.cc:1549] task:1 unexpectedly '
      'tried to connect with a different incarnation.',
      'came with the same number',
    ),
  ],
)
def test_pages_about_who_is_lost_become_a_sentence(text, said):
  found = last_words.sentence(text)
  assert said in found and found.count('\n') == 1


def test_other_pages_stay_as_they_are():
  text = 'E1129 17:41:36.1 9 coordination_service.cc:1] something else\n'
  assert last_words.sentence(text) is None
  done = subprocess.run(
    [sys.executable, '-I', '-S', last_words.__file__],
    input=f'a line\n{text}',
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stderr == f'a line\n{text}'


class Company:
  """Processes of one run that train the toy model."""

  def __init__(self, count, workdir, seconds, layout='replicated'):
    with socket.socket() as probe:
      probe.bind(('localhost', 0))
      port = probe.getsockname()[1]
    self.workdir = workdir
    self.processes = [
      subprocess.Popen(
        [
          *(sys.executable, 'tests/toy_process.py'),
          *(str(workdir), str(NUM_STEPS), str(seconds), layout),
        ],
        cwd=ROOT,
        env=os.environ
        | {
          'PYTHONPATH': f'{ROOT}{os.pathsep}{os.environ.get("PYTHONPATH", "")}',
          'JAX_PLATFORMS': 'cpu',
          'JAX_COORDINATOR_ADDRESS': f'localhost:{port}',
          'JAX_NUM_PROCESSES': str(count),
          'JAX_PROCESS_ID': str(index),
          'XLA_FLAGS': '--xla_force_host_platform_device_count=1',
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
      )
      for index in range(count)
    ]

  def signal(self, index, signum, *, at_step):
    """Sends a process a signal once a step has been logged."""
    deadline = time.monotonic() + 200
    log = self.workdir / 'metrics.jsonl'
    while max([0, *(r['step'] for r in metrics.read(log))]) < at_step:
      ended = [x for x in self.processes if x.poll() is not None]
      assert not ended, ended[0].communicate()[1]
      assert time.monotonic() < deadline
      time.sleep(0.01)
    self.processes[index].send_signal(signum)

  def ends(self):
    """Exit codes, and what each said on standard error."""
    said = [x.communicate(timeout=200)[1] for x in self.processes]
    return [x.returncode for x in self.processes], said


@pytest.fixture(scope='module')
def story(tmp_path_factory):
  """A run of two processes, one killed, told to stop, and ended by four.

  The four hold a part of the state each.
  """
  workdir = tmp_path_factory.mktemp('runs') / 'story'
  told = {}
  company = Company(2, workdir, 0.1)
  company.signal(1, signal.SIGKILL, at_step=6)
  told['killed'] = company.ends()
  told['before'] = metrics.read(workdir / 'metrics.jsonl')
  company = Company(2, workdir, 0.1)
  company.signal(1, signal.SIGTERM, at_step=9)
  told['stopped'] = company.ends()
  told['steps'] = sorted(x.name for x in (workdir / 'checkpoints').iterdir())
  told['ended'] = Company(4, workdir, 0.0, 'fsdp').ends()
  return workdir, told


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
  """The same run, by one process with as many devices."""
  workdir = tmp_path_factory.mktemp('runs') / 'alone'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(metrics, 'draw_curves', lambda records, path: None)
    toy_process.train(workdir, NUM_STEPS, mesh=sharding.make_mesh(2))
  return workdir


def test_a_lost_process_ends_the_others_with_a_sentence(story):
  codes, (said, _) = story[1]['killed']
  assert codes == [1, -signal.SIGKILL]
  sentence = [line for line in said.splitlines() if 'is lost' in line]
  assert len(sentence) == 1 and 'its own output says why' in sentence[0]
  assert 'Traceback' not in said and 'Check failure' not in said


def test_a_signal_to_one_process_saves_and_stops_all(story):
  codes, (said, silent) = story[1]['stopped']
  assert codes == [128 + signal.SIGTERM] * 2
  assert 'Going on from' in said and 'step_00000004' in said
  step = int(story[1]['steps'][-1][-8:])
  assert 9 <= step < NUM_STEPS
  assert f'Stopped by SIGTERM after step {step} of {NUM_STEPS}' in said
  assert not [x for x in silent.splitlines() if not x.startswith('Waits for ')]


def test_losses_are_those_of_one_process(story, alone):
  workdir, told = story
  assert told['ended'][0] == [0] * 4, told['ended'][1]
  found, expected = (
    metrics.read(path / 'metrics.jsonl') for path in (workdir, alone)
  )
  assert len(found) == len(expected)
  for record, other in zip(found, expected):
    record.pop('seconds'), other.pop('seconds')
    assert record == pytest.approx(other, rel=1e-5)


def test_a_killed_run_started_again_has_the_same_bits(story):
  workdir, told = story
  again = metrics.read(workdir / 'metrics.jsonl')
  # The run went on from step 4, and took those after it once more.
  assert told['before'][-1]['step'] >= 6
  for record, other in zip(told['before'], again):
    assert record | {'seconds': 0} == other | {'seconds': 0}


def test_one_process_goes_on_with_what_several_saved(story, alone):
  del alone
  workdir, _ = story
  steps = sorted(x.name for x in (workdir / 'checkpoints').iterdir())
  assert steps[-1] == f'step_{NUM_STEPS:08d}'
  toy_process.train(workdir, NUM_STEPS + 2, mesh=sharding.make_mesh(1))
  assert metrics.read(workdir / 'metrics.jsonl')[-1]['step'] == NUM_STEPS + 2
