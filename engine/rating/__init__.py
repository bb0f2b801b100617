"""Ratings fitted jointly over a match log, with intervals and tests of what the model leaves over."""
