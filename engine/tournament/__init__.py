"""Tournaments: pairings, paired openings, crosstables."""
