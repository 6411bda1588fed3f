"""Latents to scalars: pure functions without parameters, one idea a module."""
