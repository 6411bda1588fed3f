"""Command lines: `python -m experiments.<name>`; flags live here."""
