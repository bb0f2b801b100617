"""A replicated log for any deterministic state machine: bytes in, bytes out."""
