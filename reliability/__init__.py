"""Campaigns: each tries many times to break one promise of docs/reliability.md."""
