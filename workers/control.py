"""Orders from outside the cluster: signals, a socket in the data folder, and a command that knows of spot notices."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

import structlog

from config.errors import AppError
from workers.events import Order

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = structlog.get_logger()
SOCKET = "control.sock"
_REPLY_S = 5.0


class NotRunning(AppError):
    """No worker runs with this data folder."""


class Control:
    """Listens while entered; `on_order(order, reason)` is called from the loop."""

    def __init__(self, data: Path, on_order: Callable[[Order, str], None]) -> None:
        self._path = data / SOCKET
        self._on_order = on_order
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Control:
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self._path))
        self._path.chmod(0o600)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        if self._server:
            self._server.close()
        self._path.unlink(missing_ok=True)

    def _signalled(self, number: signal.Signals) -> None:
        self._on_order(Order.STOP, number.name)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            text = (await reader.readline()).decode().strip()
            if text in set(Order):
                self._on_order(Order(text), "control")
                writer.write(b"ok\n")
            else:
                writer.write(f"unknown order {text!r}; one of {', '.join(Order)}\n".encode())
            await writer.drain()
        except (OSError, UnicodeDecodeError) as error:
            log.info("control.broken", reason=str(error))
        finally:
            writer.close()


async def watch_spot(command: str, on_order: Callable[[Order, str], None], period_s: float = 5.0) -> None:
    """Run `command` again and again; when it exits with 0 the machine is about to be taken away: stop."""
    while True:
        process = await asyncio.create_subprocess_shell(
            command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(period_s * 2):
                code = await process.wait()
        except TimeoutError:
            code = 1
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # the shell and what it waits for
        if code == 0:
            on_order(Order.STOP, "spot notice")
            return
        await asyncio.sleep(period_s)


def send_order(data: Path, order: Order) -> str:
    """Give an order to the worker that runs with this data folder; raises NotRunning."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(_REPLY_S)
        try:
            link.connect(str(data / SOCKET))
            link.sendall(f"{order.value}\n".encode())
            return link.recv(1000).decode().strip()
        except OSError as error:
            raise NotRunning(f"no worker runs with the data folder {data}; start one with `rift worker`") from error
