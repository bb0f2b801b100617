"""Shards of whole games, windows over them, quality checks."""
