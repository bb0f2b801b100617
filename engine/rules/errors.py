"""What the public API of the rules refuses."""


class RulesError(ValueError):
    """Input that the rules cannot accept; the message says what to do."""


class IllegalMove(RulesError):  # noqa: N818 - the words of the rules
    """The move is not legal in this position."""


class BadPosition(RulesError):  # noqa: N818 - the words of the rules
    """The text or bytes do not describe a position of this game."""


class BadRecord(RulesError):  # noqa: N818 - the words of the rules
    """The game file is damaged, incomplete, or does not follow the rules."""
