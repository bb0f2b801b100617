"""What is true: the replicated queue, the service that holds it, its client and its commands."""
