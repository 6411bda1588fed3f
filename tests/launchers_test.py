import pytest

from jepa_wm import launchers, processes

INDEX, COUNT = launchers.LAUNCHERS[0]
ADDRESS = launchers.COORDINATOR


@pytest.fixture(autouse=True)
def alone(monkeypatch):
  """No launcher says anything, and JAX knows of none."""
  own = {name for names in launchers.LAUNCHERS for name in names}
  for name in (*own, ADDRESS, 'TPU_WORKER_HOSTNAMES', 'TPU_WORKER_ID'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(launchers, '_is_in_slice', lambda: False)
  monkeypatch.setattr(launchers, '_is_known_to_jax', lambda: False)


@pytest.mark.parametrize(
  ('given', 'missing'),
  [
    ({INDEX: '1'}, (COUNT, ADDRESS)),
    ({INDEX: '0'}, (COUNT, ADDRESS)),
    ({COUNT: '2'}, (INDEX, ADDRESS)),
    ({INDEX: '1', COUNT: '2'}, (ADDRESS,)),
    ({INDEX: '1', ADDRESS: 'localhost:9'}, (COUNT,)),
    ({COUNT: '2', ADDRESS: 'localhost:9'}, (INDEX,)),
  ],
)
def test_some_of_the_variables_are_refused_at_once(given, missing, monkeypatch):
  for name, value in given.items():
    monkeypatch.setenv(name, value)
  said = ' and '.join(f'{name} is {value}' for name, value in given.items())
  said += ', but ' + ' and '.join(f'{name} is not set' for name in missing)
  with pytest.raises(ValueError, match=f'^{said}; give every process all'):
    processes.initialize()
  # A launcher knows the others.
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '2')
  launchers.check_whole()


@pytest.mark.parametrize(
  'given',
  [
    {},
    {COUNT: '1'},
    {COUNT: '1', INDEX: '0'},
    {ADDRESS: 'localhost:9'},
    {ADDRESS: 'localhost:9', COUNT: '2', INDEX: '1'},
  ],
)
def test_all_or_none_of_the_variables_are_taken(given, monkeypatch):
  for name, value in given.items():
    monkeypatch.setenv(name, value)
  launchers.check_whole()


def test_what_jax_knows_of_need_not_be_given(monkeypatch):
  monkeypatch.setenv(ADDRESS, 'localhost:9')
  monkeypatch.setenv(INDEX, '1')
  monkeypatch.setattr(launchers, '_is_known_to_jax', lambda: True)
  launchers.check_whole()


def test_jax_is_asked_which_launchers_it_knows(monkeypatch):
  monkeypatch.undo()
  for name in ('SLURM_JOB_ID', 'OMPI_MCA_orte_hnp_uri', 'TPU_SKIP_MDS_QUERY'):
    monkeypatch.delenv(name, raising=False)
  assert not launchers._is_known_to_jax()
  monkeypatch.setenv('OMPI_MCA_orte_hnp_uri', '1.0;tcp://10.0.0.1:1')
  assert launchers._is_known_to_jax()


@pytest.mark.parametrize('value', ['99999999999', '100001', '9' * 5000])
@pytest.mark.parametrize('name', [INDEX, COUNT])
def test_more_processes_than_there_can_be_are_refused(name, value, monkeypatch):
  for other in (INDEX, COUNT):
    monkeypatch.setenv(other, '100000')
  monkeypatch.setenv(ADDRESS, 'localhost:9')
  monkeypatch.setenv(name, value)
  with pytest.raises(ValueError, match=f'{name} must be a number up to 100000'):
    processes.initialize()


def test_nobody_is_waited_for_for_more_than_a_week(monkeypatch):
  monkeypatch.setenv(ADDRESS, 'localhost:9')
  monkeypatch.setenv(COUNT, '2')
  for index in '01':
    monkeypatch.setenv(INDEX, index)
    for seconds in ('99999999999999', '604801'):
      monkeypatch.setenv('JEPA_WM_JOIN_SECONDS', seconds)
      with pytest.raises(
        ValueError, match='must be a number up to 604800, got'
      ):
        processes.initialize()
  monkeypatch.setenv('JEPA_WM_JOIN_SECONDS', '604800')
  assert launchers.join_seconds() == 604800
