"""One script per figure of the papers."""
