"""One file a job kind: payload, engine call, artifacts and typed result."""
