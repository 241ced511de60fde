"""What the figures of docs/speed.md come from. Run from the project's root: python -m benchmarks.NAME."""
