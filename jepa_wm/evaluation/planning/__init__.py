"""A model, a planner and a world to a success rate: protocols, closed loops."""
