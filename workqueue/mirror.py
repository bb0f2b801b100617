"""Passes an upload on to a second voter while it arrives, so that two copies take hardly longer than one.

A blocking connection in threads, because TLS there runs beside the event loop instead of in it. Whatever goes wrong
ends the mirroring, never the upload: what the other voter has got is kept there, and a later push sends the rest.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from workqueue.blocks import Block

OFFSET = "Upload-Offset"
_TIMEOUT_S = 5.0  # a voter that takes nothing for so long holds the upload up no more
_ANSWER_S = 60.0  # it digests and syncs all bytes before it answers


class Mirror:
    """One upload to one voter. Its methods block: call them in a thread, one at a time; none raises."""

    def __init__(self, url: str, tls: ssl.SSLContext | None, sha256: str, kind: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        if parts.scheme == "https":
            self._link: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, parts.port, context=tls, timeout=_TIMEOUT_S
            )
        else:
            self._link = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S)
        self._path = f"/v1/artifacts/{sha256}"
        self._query = urlencode({"kind": kind, "copy": "1"})
        self._sending = False
        self.stored = False
        self.failed = False

    def begin(self, size: int, start: int) -> None:
        """Connect; go on only from where the other voter stands."""
        with self._giving_up():
            self._link.request("HEAD", self._path)
            held = self._link.getresponse()
            held.read()
            if held.status == 200:
                self.stored = True
            elif held.status == 404 and int(held.headers.get(OFFSET, "0")) == start:
                self._link.putrequest("PUT", f"{self._path}?{self._query}")
                self._link.putheader("Content-Range", f"bytes {start}-{size - 1}/{size}")
                self._link.putheader("Content-Length", str(size - start))
                self._link.putheader("Content-Type", "application/octet-stream")
                self._link.endheaders()
                self._link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
                self._sending = True

    def send(self, block: Block) -> None:
        """Send more bytes."""
        if self._sending:
            with self._giving_up():
                self._link.send(block)

    def finish(self) -> None:
        """Wait until the other voter has verified and synced the bytes; `stored` says whether it has."""
        if self._sending:
            with self._giving_up():
                self._link.sock.settimeout(_ANSWER_S)
                self.stored = self._link.getresponse().status == 201
        self.close()

    def close(self) -> None:
        """Hang up; the other voter keeps what it has got."""
        self._sending = False
        self._link.close()

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError):
            self.failed = True
            self.close()
