"""The small process that gossips: `python -m membership.process --settings FILE [--socket PATH]`.

It keeps the probes of a busy trainer or voter punctual, and serves members, commands and events on a unix
socket, if any.
It ends, with a farewell, on SIGTERM or SIGINT. With `--parent` it ignores them and ends, with a farewell, when its
standard input ends: whoever started it is gone then, however that happened, or wants it to end. With `--silence-s` it
also ends when the parent has written nothing there for so long, without a farewell: the parent hangs, which the others
are to find out for themselves, so that a sign of life by another road still counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from config.errors import AppError
from membership import frames
from membership.api import Membership, MembershipError, State
from membership.service import Gossip
from membership.settings import GossipSettings
from membership.tasks import Tasks

_CLIENTS_MAX = 64
_GRACE_S = 0.1
_BACKLOG_BYTES_MAX = 4 << 20  # unread events that a client may leave before it is cut off


class Server:
    """Serves one membership to the clients of a unix socket."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._clients = Tasks(_CLIENTS_MAX)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a client, unless there are too many."""
        if not self._clients.start(self._serve(reader, writer)):
            writer.transport.abort()

    async def close(self) -> None:
        """Hang up on all clients."""
        await self._clients.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it hangs up."""
        events = asyncio.create_task(self._push_events(writer))
        try:
            while (frame := await frames.read(reader)) is not None:
                writer.write(frames.pack(await self._answer(frame)))
                await writer.drain()
        except (ValueError, ConnectionError):
            pass  # not one of ours, or gone: either way this connection is over
        finally:
            events.cancel()
            writer.close()  # before anything is awaited, where a second cancellation may strike
            await asyncio.gather(events, return_exceptions=True)
            await frames.hang_up(writer)

    async def _push_events(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(self._membership.events()) as subscription:
            async for event in subscription:
                if writer.transport.get_write_buffer_size() > _BACKLOG_BYTES_MAX:
                    writer.transport.abort()
                    return
                writer.write(frames.pack(frames.Frame(0, "event", event)))

    async def _answer(self, frame: frames.Frame) -> frames.Frame:
        try:
            return frames.Frame(frame.id, "ok", await self._do(frame.op, frame.body))
        except AppError as error:
            return frames.Frame(frame.id, "error", str(error))
        except (TypeError, KeyError, ValueError) as error:
            return frames.Frame(frame.id, "error", f"{frame.op} was asked with a body that it cannot take: {error}")

    async def _do(self, op: str, body: Any) -> object:
        membership = self._membership
        match op:
            case "members":
                state = None if body["state"] is None else State(body["state"])
                return membership.members(body["role"], state)
            case "get":
                return membership.get(str(body))
            case "set_metadata":
                await membership.set_metadata(**body)
            case "leave":
                await membership.leave()
            case "hint_suspect":
                membership.hint_suspect(body["id"], body["reason"])
            case "install_key":
                await membership.install_key(body["key_id"], body["key"])
            case "use_key":
                await membership.use_key(body)
            case "remove_key":
                await membership.remove_key(body)
            case _:
                raise MembershipError(f"The gossip process knows no command {op!r}.")
        return None


def read_settings(path: Path) -> GossipSettings:
    """Return the settings in a YAML or JSON file; an unknown key is an error that names it."""
    try:
        return msgspec.convert(yaml.safe_load(path.read_text()), GossipSettings)
    except OSError as error:
        raise MembershipError(f"The gossip settings {path} cannot be read: {error.strerror}.") from error
    except (msgspec.ValidationError, yaml.YAMLError) as error:
        raise MembershipError(f"The gossip settings {path} cannot be used: {error}.") from error


def listen(path: Path) -> socket.socket:
    """Return a listening unix socket that only this user may use, in place of a former process's."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
    except OSError as error:
        listener.close()
        why = error.strerror or error  # a path that is too long has no number
        raise MembershipError(f"The socket {path} cannot be made: {why}; choose another path.") from error
    return listener


@contextlib.asynccontextmanager
async def _served(gossip: Membership, path: Path) -> AsyncIterator[None]:
    service = Server(gossip)
    server = await asyncio.start_unix_server(service.accept, sock=listen(path))
    try:
        yield
    finally:
        server.close()
        await service.close()
        await asyncio.to_thread(path.unlink, missing_ok=True)


class _Parent(asyncio.Protocol):
    """The parent's end of the standard input: whatever it writes there says that it runs."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self.heard_s = asyncio.get_running_loop().time()

    def data_received(self, data: bytes) -> None:
        self.heard_s = asyncio.get_running_loop().time()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()

    async def silent(self, limit_s: float) -> None:
        """Return when nothing has been heard for `limit_s`."""
        loop = asyncio.get_running_loop()
        while (left_s := self.heard_s + limit_s - loop.time()) > 0:
            await asyncio.sleep(left_s)
            await asyncio.sleep(_GRACE_S)  # who slept itself, as with its machine, hears first what came meanwhile


async def run(settings: GossipSettings, path: Path | None, *, parent: bool = False, silence_s: float = 0.0) -> None:
    """Gossip and serve until a signal, the end of the parent, or its silence (0 = never) asks to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, (lambda: None) if parent else stop.set)
    async with Gossip(settings) as gossip, contextlib.AsyncExitStack() as stack:
        if path:
            await stack.enter_async_context(_served(gossip, path))
        if parent:
            _, heard = await loop.connect_read_pipe(lambda: _Parent(stop.set), sys.stdin)
            if silence_s and await _first(stop.wait(), heard.silent(silence_s)) == 1:
                sys.stderr.write(f"the parent has said nothing for {silence_s:g} s\n")
                return
        await stop.wait()
        await gossip.leave()


async def _first(*works: Coroutine[Any, Any, object]) -> int:
    """Return which one ends first; the others are cancelled."""
    tasks = [asyncio.create_task(work) for work in works]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    first = next(index for index, task in enumerate(tasks) if task.done())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return first


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, and turn an error into a sentence and an exit code."""
    parser = argparse.ArgumentParser(prog="python -m membership.process", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="YAML or JSON file of GossipSettings")
    parser.add_argument("--socket", type=Path, help="unix socket to serve")
    parser.add_argument("--parent", action="store_true", help="end with the standard input, not by a signal")
    parser.add_argument("--silence-s", type=float, default=0.0, help="end when the parent writes nothing for so long")
    options = parser.parse_args(arguments)
    try:
        settings = read_settings(options.settings)
        asyncio.run(run(settings, options.socket, parent=options.parent, silence_s=options.silence_s))
    except AppError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
