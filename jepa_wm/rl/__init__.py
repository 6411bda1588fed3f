"""Agents that learn: a world model as the world that they learn in."""
