"""Batches to parameters: state, step, run, hooks, optimiser, checkpoints."""
