"""No two tests, in whatever processes, are given the same port."""

import socket
import subprocess
import sys

from tests.ports import BLOCK, BLOCKS, Block, reserve_ports

SECOND = "from tests.ports import reserve_ports; print(*reserve_ports(5)); input()"


def block(port: int) -> int:
    return (port - BLOCKS.start) // BLOCK


def test_another_process_has_other_ports() -> None:
    """As long as the other one lives."""
    mine = reserve_ports(5)
    with subprocess.Popen(
        [sys.executable, "-c", SECOND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        theirs = [int(port) for port in other.stdout.readline().split()]
        assert len(theirs) == 5
        assert {block(port) for port in theirs}.isdisjoint(map(block, mine))
        other.communicate("\n")


def test_ports_in_use_are_passed_over() -> None:
    """Those of TCP as those of UDP; every other one comes again when all were given."""
    mine = Block()
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(type=kind) as taken:
            [port] = mine.reserve(1)
            taken.bind(("127.0.0.1", port))
            given = [other for _ in range(BLOCK) for other in mine.reserve(1)]
            assert port not in given
            assert len(set(given)) >= BLOCK - 10
