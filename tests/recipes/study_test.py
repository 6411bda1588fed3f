import pytest

from jepa_wm.recipes.study import Published, Row, Size, Study


def _study(**given):
  settings = {
    'name': 'a/b',
    'question': 'Does it?',
    'source': 'Table 1',
    'reference': 'yes',
    'rows': {
      'yes': Row(),
      'no': Row(train={'x': 1}),
      'later': Row(missing='.'),
    },
    'sizes': {'small': Size(config='lewm.py', minutes=1)},
  }
  return Study(**{**settings, **given})


def test_a_published_number_has_a_source():
  with pytest.raises(ValueError, match='needs its source'):
    Published(value=1.0, source=' ')
  with pytest.raises(ValueError, match='neither a value nor'):
    Published(source='Table 1')
  with pytest.raises(ValueError, match='spread_kind'):
    Published(value=1.0, spread=0.1, source='Table 1')
  with pytest.raises(ValueError, match=r"hand must be one of.*'third'"):
    Published(value=1.0, source='Table 1', hand='third')


def test_what_a_number_is_stands_beside_it():
  number = Published(
    value=96, spread=2.83, spread_kind='s.d.', n='3 seeds', source='Table 1'
  )
  assert str(number) == '96 \u00b1 2.83 (s.d., 3 seeds)'
  assert str(Published(says='flat', source='x', hand='figure')) == (
    'flat (figure)'
  )
  several = Published(value=51.5, of='K400', also={'IN1K': 55.6}, source='x')
  assert str(several) == '51.5 (K400, IN1K 55.6)'


def test_a_study_of_which_no_row_can_be_run_is_listed():
  rows = {'arm': Row(missing='it needs a robot.')}
  study = _study(reference='arm', rows=rows, sizes={})
  assert study.runnable == ()
  with pytest.raises(ValueError, match='only listed: it needs a robot'):
    study.select(())


def test_a_probe_may_differ_by_size():
  row = Row(probe={'depth': 2}, probe_by_size={'small': {'num_frames': 8}})
  assert row.probes('small') == {'depth': 2, 'num_frames': 8}
  assert row.probes('full') == {'depth': 2}


@pytest.mark.parametrize(
  'given, sentence',
  [
    ({'reference': 'maybe'}, "reference 'maybe' is none of the rows yes, no"),
    ({'reference': 'later'}, 'the reference cannot be run'),
    ({'measure': 'guess'}, "must be 'plan' or 'probe', got 'guess'"),
    (
      {'rows': {'yes': Row(), 'no': Row(of='yes', train={'x': 1})}},
      "row 'no' takes the checkpoint of 'yes'.*train nothing",
    ),
    (
      {
        'rows': {
          'yes': Row(),
          'no': Row(of='yes', config={'small': 'pldm.py:two_room_tiny'}),
        }
      },
      "row 'no' takes the checkpoint of 'yes'.*train nothing",
    ),
    (
      {'rows': {'yes': Row(by_size={'smal': {}})}},
      "must be one of small, got 'smal'. Did you mean 'small'",
    ),
  ],
)
def test_a_study_whose_words_contradict_each_other_is_refused(given, sentence):
  with pytest.raises(ValueError, match=sentence):
    _study(**given)


def test_rows_are_chosen_by_name_and_the_reference_comes_along():
  study = _study()
  assert study.select(()) == ('yes', 'no')
  assert study.select(('ref',)) == ('yes',)
  assert study.select(('no',)) == ('yes', 'no')
  with pytest.raises(ValueError, match=r"got 'nox'. Did you mean 'no'"):
    study.select(('nox',))
  with pytest.raises(ValueError, match="'later' of a/b cannot be run"):
    study.select(('later',))


def test_a_row_with_a_comma_is_chosen_as_it_is_called():
  study = _study(rows={'yes': Row(), 'no, never': Row(), 'no': Row()})
  # A list of flags is cut at commas.
  assert study.select(('no', 'never')) == ('yes', 'no, never')
  assert study.select(('no', 'never', 'no')) == ('yes', 'no, never', 'no')
