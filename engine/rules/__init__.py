"""The rules of RingRift, compiled."""

from typing import Final

RULES_VERSION: Final = "1"  # changes when the same moves could lead elsewhere; recorded in every game file
