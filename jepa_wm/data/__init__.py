"""Disk (or a simulated world) to batches.

Import the modules: whoever needs only `normalization`, as everything that runs
a trained model does, is spared TFDS and grain.
"""
