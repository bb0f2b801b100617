"""The rules of RingRift, compiled."""
