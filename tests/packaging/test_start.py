"""The command starts without what it does not need."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "numba", "scipy", "matplotlib", "pysyncobj", "aiohttp"}


@pytest.mark.parametrize("arguments", [["--help"], ["queue", "ls", "--help"], ["model", "promote", "--help"]])
def test_help_imports_nothing_heavy(arguments) -> None:
    code = (
        "import sys, rift\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try:\n    rift.main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('loaded', sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: rift" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "loaded []"


def test_an_unknown_command_gets_the_nearest_one() -> None:
    ran = subprocess.run([sys.executable, "rift.py", "queu"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "queue" in ran.stderr


def test_the_version_is_told_without_a_command() -> None:
    ran = subprocess.run([sys.executable, "-m", "rift", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout.strip()[0].isdigit()
