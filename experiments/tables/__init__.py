"""One script per table of the papers."""
