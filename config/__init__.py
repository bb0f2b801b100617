"""What may be set: one typed, frozen Settings, read once at start."""
