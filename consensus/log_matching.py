"""How a follower fits its log to the leader's: compare, cut off what conflicts, append the rest (Raft §5.3).

Only what has been compared counts as the leader's; entries behind it are left alone, so that a message which is late
or repeated takes nothing away (defects 5, 6).
"""

from consensus.errors import InvariantBroken
from consensus.journal import Journal
from consensus.messages import Append


def merge(journal: Journal, message: Append, committed: int) -> int | None:
    """Merge entries; return the last index now known to equal the leader's, or None if they don't fit.

    Raises InvariantBroken if that would remove an entry up to `committed`.
    """
    prev_index, prev_term, entries = message.prev_index, message.prev_term, message.entries
    if prev_index < journal.base_index:  # what a snapshot holds is committed, so it matches
        drop = min(journal.base_index - prev_index, len(entries))
        prev_index, entries = prev_index + drop, entries[drop:]
        if prev_index < journal.base_index:
            return prev_index
        prev_term = journal.base_term
    if journal.term_at(prev_index) != prev_term:
        return None
    known = 0
    while known < len(entries) and journal.term_at(prev_index + 1 + known) == entries[known][2]:
        known += 1
    start = prev_index + known + 1
    if known < len(entries) and journal.last_index >= start:
        if start <= committed:
            raise InvariantBroken(f"the leader conflicts with the committed entry {start} (commit {committed})")
        journal.truncate(start)
    for command, index, term in entries[known:]:
        journal.append(command, index, term)
    return prev_index + len(entries)


def retreat(journal: Journal, prev_index: int) -> int:
    """Return where the leader should go on: behind our end, or before the whole of the term that conflicts."""
    have = journal.term_at(prev_index)
    back_to = min(prev_index, journal.last_index + 1)
    if have is not None:
        while back_to > journal.base_index + 1 and journal.term_at(back_to - 1) == have:
            back_to -= 1
    return back_to
