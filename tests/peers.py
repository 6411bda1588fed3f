"""Marks of tests beside somebody else's implementation."""

import pytest

MARKS = [
  pytest.mark.peer,
  pytest.mark.slow,
  pytest.mark.filterwarnings('ignore'),
]
