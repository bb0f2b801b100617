"""Networks: encoder, architecture, manifest, inference."""
