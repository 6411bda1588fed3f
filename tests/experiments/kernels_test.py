"""`--attention`: by which kernel, and where it would do nothing."""

import pytest
from absl import flags

from experiments import kernels
from jepa_wm.networks import attention_kernels


def given(*arguments):
  own = flags.FlagValues()
  kernels.define(own)
  own(['command', *arguments])
  return own


def test_attention_is_plain_unless_somebody_says_so(capsys):
  with kernels.in_use(given()):
    assert attention_kernels._switch.value == 'plain'
  assert capsys.readouterr().err == ''


@pytest.mark.parametrize('kernel, chip', [('cudnn', 'gpu'), ('splash', 'tpu')])
def test_a_kernel_of_another_chip_is_refused(kernel, chip):
  said = f'--attention={kernel} is for a {chip}, and this runs on a cpu'
  with pytest.raises(ValueError, match=said):
    kernels.in_use(given(f'--attention={kernel}'))


def test_what_does_nothing_on_a_cpu_says_so(capsys):
  with kernels.in_use(given('--attention=auto')):
    assert attention_kernels._switch.value == 'auto'
  assert 'does nothing on a cpu' in capsys.readouterr().err
