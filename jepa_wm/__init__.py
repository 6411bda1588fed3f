"""JEPA world models in JAX: representation-space predictors and planning."""

__version__ = '0.1.0'
