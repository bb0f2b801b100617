"""Leader-only reconcilers: each reads the state and proposes guarded commands; none keeps state."""
