"""The scripts: train, sample, evaluate, and the tables and figures of both papers."""
