"""Intervals, paired comparisons and runs that are kept."""
