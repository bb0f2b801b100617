"""Training: resumable, from shards to weights."""
