"""Runs: training, resuming, reporting."""
