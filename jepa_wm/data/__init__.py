"""Disk (or a simulated world) to batches; import its modules."""
