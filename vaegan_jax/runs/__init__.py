"""Runs: train, resume, report. A run alone is a population of one member."""
