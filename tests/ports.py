"""Ports for servers that tests start: nobody else takes them between the choice and the bind."""

from __future__ import annotations

import contextlib
import functools
import socket

BLOCK = 500
BLOCKS = range(10_000, 32_500, BLOCK)  # from 32768 on Linux gives ports to outgoing connections


class Block:
    """Neighbouring ports of this process; the first is bound as long as the process lives, which keeps others off."""

    def __init__(self) -> None:
        self._mark = socket.socket()
        for first in BLOCKS:
            with contextlib.suppress(OSError):
                self._mark.bind(("127.0.0.1", first))
                self._ports = range(first + 1, first + BLOCK)
                self._next = 0
                return
        raise RuntimeError("too many processes run tests: no ports are left")

    def reserve(self, count: int) -> range:
        """Return `count` ports in a row, those that were reserved longest ago first."""
        for _ in self._ports:
            if self._next + count > len(self._ports):
                self._next = 0
            row = self._ports[self._next : self._next + count]
            self._next += count
            if all(map(_is_free, row)):
                return row
        raise RuntimeError(f"no {count} ports in a row are free: end what earlier tests left running")


def _is_free(port: int) -> bool:
    """Tell whether nobody has the port, neither for TCP nor for UDP."""
    with contextlib.suppress(OSError), socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", port))
        udp.bind(("127.0.0.1", port))
        return True
    return False


_block = functools.cache(Block)


def reserve_ports(count: int) -> range:
    """Return `count` ports in a row that nobody uses and no other process of tests gets."""
    return _block().reserve(count)
