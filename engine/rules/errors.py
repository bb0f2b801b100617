"""What the public API of the rules refuses."""


class RulesError(ValueError):
    """Input that the rules cannot accept; the message says what to do."""


class IllegalMove(RulesError):
    """The move is not legal in this position."""


class BadPosition(RulesError):
    """The text or bytes do not describe a position of this game."""


class BadRecord(RulesError):
    """The game file is damaged, incomplete, or does not follow the rules."""
