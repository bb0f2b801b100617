"""RingRift: rules, nets, search, players, selfplay, training, tournaments; usable without a cluster."""
