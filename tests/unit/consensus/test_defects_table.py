"""The table of the library's defects in the docs, and the tests that show each, name each other."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parents[2] / "docs" / "consensus.md"
DEFECTS = 27


def test_each_defect_has_a_row_and_a_test() -> None:
    """No row without its test, no test without its row, none of the known defects left out."""
    rows = {int(n): set(re.findall(r"`(\w+)`", tests)) for n, tests in
            re.findall(r"^\| (\d+) \|.*\| (.*?) \|$", DOCS.read_text(), re.MULTILINE)}  # fmt: skip
    sources = "\n".join(path.read_text() for path in HERE.glob("test_defects_*.py"))
    tests = re.findall(r"def (test_defect_(\d+)_\w+)", sources)
    assert sorted(rows) == list(range(1, DEFECTS + 1))
    assert {(number, name) for number, names in rows.items() for name in names} == {
        (int(number), name) for name, number in tests
    }
