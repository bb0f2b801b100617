"""Players: one protocol, from random to Gumbel search."""
