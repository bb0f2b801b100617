"""docs/cli.md says what the commands are."""

import rift
from tests.packaging.reference import PAGE, text


def test_the_page_of_commands_is_current() -> None:
    """`python -m tests.packaging.reference` writes it anew."""
    assert PAGE.read_text() == text(), "run `python -m tests.packaging.reference` and commit docs/cli.md"


def test_every_command_has_a_sentence() -> None:
    """No command and no option goes without a word."""
    lines = text().splitlines()
    assert not [line for line in lines if line.startswith("- **") and line.endswith("`** ")]
    assert not [line for line in lines if line.startswith("  - ") and line.rstrip().endswith(":")]
    assert all(f"### rift {name}" in lines for name in rift.COMMANDS)
