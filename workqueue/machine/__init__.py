"""The pure state machine: no clock, no I/O, no randomness."""
