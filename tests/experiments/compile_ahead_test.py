"""What is read off a compiled program, and the tables of it."""

# ruff: noqa: E501

import json

import pytest

from benchmarks import ahead_table, chips, compiled_text, rows

TEXT = """HloModule jit_plan, is_scheduled=true

%fused.1 (p.1: f32[8]) -> f32[8] {
  %p.1 = f32[8]{0:T(256)} parameter(0)
  ROOT %m.1 = f32[8]{0:T(256)} multiply(%p.1, %p.1), backend_config={"estimated_cycles":"900"}
}

%body.1 (b.1: (s32[], f32[8])) -> (s32[], f32[8]) {
  %b.1 = (s32[]{:T(128)}, f32[8]{0:T(256)}) parameter(0)
  %x.1 = f32[8]{0:T(256)S(1)} get-tuple-element(%b.1), index=1
  %f.1 = f32[8]{0:T(256)S(1)} fusion(%x.1), kind=kLoop, calls=%fused.1, backend_config={"estimated_cycles":"7"}
  %all-reduce.1 = f32[8]{0:T(256)S(1)} all-reduce(%f.1), to_apply=%add.1, metadata={op_name="jit(step)/transpose(jvp(encode))/norm/sum"}
  ROOT %t.1 = (s32[]{:T(128)}, f32[8]{0:T(256)}) tuple(%i.1, %all-reduce.1)
}

%condition.1 (c.1: (s32[], f32[8])) -> pred[] {
  %c.2 = s32[]{:T(128)} constant(30)
  ROOT %lt.1 = pred[]{:T(512)} compare(%g.1, %c.2), direction=LT
}

ENTRY %main.1 (a.1: f32[8]) -> f32[16] {
  %k.1 = f32[8]{0:T(256)} custom-call(%a.1), custom_call_target="tpu_custom_call", backend_config={"custom_call_config":{
}}, metadata={op_name="jit(step)/attention"}
  %w.1 = (s32[]{:T(128)}, f32[8]{0:T(256)}) while(%t.2), condition=%condition.1, body=%body.1
  %s.1 = (f32[8]{0:T(256)}, f32[16]{0:T(256)}) all-gather-start(%x.2), dimensions={0}, metadata={op_name="jit(step)/costs/top_k"}
  ROOT %d.1 = f32[16]{0:T(256)} all-gather-done(%s.1)
}
"""


def test_a_loop_counts_as_often_as_it_runs():
  said = compiled_text.read(TEXT)
  assert said.cycles == 30 * 7
  assert said.custom_calls == {'tpu_custom_call': 1}
  assert compiled_text.grouped(said.collectives) == [
    {
      'kind': 'all-reduce',
      'name': 'gradient of norm/sum',
      'places': 1,
      'runs': 30,
      'mebibytes': round(30 * 32 / 2**20, 4),
    },
    {
      'kind': 'all-gather',
      'name': 'costs/top_k',
      'places': 1,
      'runs': 1,
      'mebibytes': round(64 / 2**20, 4),
    },
  ]


def line(**config):
  known = {'path': 'plan', 'topology': 'v5e:2x2', 'attention': 'plain'}
  return {'value': 3.2, 'config': known | config}


def test_every_path_is_a_row_also_where_it_does_not_fit():
  fits = line(
    attention='auto',
    memory_gib_of_chip=16,
    arguments_gib=1.0,
    temporaries_gib=2.5,
    needed_gib=4.0,
    tflop_of_chip=0.5,
    collectives=[
      {'kind': 'all-reduce', 'places': 2, 'runs': 60, 'mebibytes': 1}
    ],
    estimates=dict.fromkeys(
      ('products_ms', 'memory_ms', 'links_ms', 'cycles_ms'), 1.5
    ),
  )
  too_large = line(does_not_fit='Used 20 GiB')
  head, rule, first, second = ahead_table.markdown([fits, too_large]).split(
    '\n'
  )
  assert len({row.count('|') for row in (head, rule, first, second)}) == 1
  assert '`plan`, auto' in first and '4.00 GiB of 16 GiB (25.0 %)' in first
  assert 'all-reduce: 2, 60, 1' in first
  assert 'Used 20 GiB' in second


def test_a_chip_that_nobody_knows_is_refused():
  assert chips.of('v5e:4x4').clock == pytest.approx(1.5, rel=0.01)
  with pytest.raises(ValueError, match='nothing is known of the chips'):
    chips.of('v9:2x2')


def test_rows_say_what_was_measured():
  config = {'dtype': 'bfloat16', 'share_of_peak': 0.412, 'attention': 'auto'}
  measured = {'name': 'train', 'value': 1234.5, 'unit': 'clips/s'}
  measured |= {'device': 'a GPU', 'date': 'today', 'config': config}
  row = rows.markdown([json.loads(json.dumps(measured))]).split('\n')[-1]
  for said in ('bfloat16', '1,234.5 clips/s', '41.2%', 'auto', 'a GPU'):
    assert said in row
