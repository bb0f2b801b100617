"""Voters compare digests of their state at the same indices; who differs from the majority must stop."""

KEPT = 16  # indices remembered, ours and the others'


class DigestCheck:
    """The digests at recent indices by voter."""

    def __init__(self, node_id: str, voters: int) -> None:
        self._node_id = node_id
        self._voters = voters
        self._seen: dict[int, dict[str, bytes]] = {}

    def own(self) -> dict[int, str]:
        """Return this voter's digests at recent indices, in hexadecimal."""
        return {index: at[self._node_id].hex() for index, at in sorted(self._seen.items()) if self._node_id in at}

    def note(self, node_id: str, index: int, digest: bytes) -> tuple[bool, list[str]]:
        """Record a digest; return (we are the odd one out, the voters that differ from us) at that index."""
        at = self._seen.setdefault(index, {})
        at[node_id] = digest
        while len(self._seen) > KEPT:
            del self._seen[min(self._seen)]
        ours = at.get(self._node_id)
        if ours is None:
            return False, []
        others = [n for n, d in at.items() if d != ours]
        agreeing = len(at) - len(others)
        majority = self._voters // 2 + 1
        most = max(list(at.values()).count(d) for d in at.values())
        undecided = len(at) == self._voters and most < majority
        wrong = bool(others) and (undecided or (most >= majority and agreeing < majority))
        return wrong, sorted(others)
