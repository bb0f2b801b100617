"""Ratings and sequential tests computed from match logs."""
