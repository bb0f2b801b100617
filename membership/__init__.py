"""Who seems alive: SWIM gossip among voters and reachable workers, presence by lease for the rest."""
