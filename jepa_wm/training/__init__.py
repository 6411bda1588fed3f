"""Batches to parameters: state, step, optimiser, checkpoints, metrics, loop."""
