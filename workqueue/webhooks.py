"""Tells people of alerts by webhook: Discord's format for its URLs, Slack's for all others (many servers speak it)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import msgspec
import stamina

from config.errors import AppError, ConfigError
from workqueue.security import read_secret

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DISCORD_PATH = "/api/webhooks/"
DISCORD_MAX = 2000  # characters of a message
TIMEOUT = aiohttp.ClientTimeout(total=10)
ATTEMPTS = 4
TIMEOUT_S = 30.0
_LATER = frozenset({408, 425, 429})


class WebhookError(AppError):
    """A message that could not be delivered; names the host, never the URL, which is a secret."""


class _Transient(WebhookError):
    """Worth another try."""


class Message(msgspec.Struct, frozen=True):
    """What people are told."""

    cluster: str
    name: str
    key: str
    detail: str
    active: bool = True

    @property
    def line(self) -> str:
        """One line for people."""
        head = "ALERT" if self.active else "ended"
        return f"{head} {self.name} {self.key} (cluster {self.cluster})" + (f": {self.detail}" if self.detail else "")


def urls_of(folder: Path, files: Sequence[str]) -> tuple[str, ...]:
    """Return the URLs in secret files, one a file; raises ConfigError."""
    found = []
    for name in files:
        secret = read_secret(folder / name)
        if not _is_url(secret):
            raise ConfigError(str(folder / name), "must hold the URL of a webhook, as https://hooks.slack.com/…")
        found.append(secret.decode())
    return tuple(found)


def _is_url(secret: bytes) -> bool:
    try:
        parts = urlsplit(secret.decode())
    except ValueError:  # no text, or brackets around what is no address
        return False
    return parts.scheme in {"https", "http"} and bool(parts.hostname)


def body_of(url: str, message: Message) -> dict[str, object]:
    """Return the JSON that the receiver behind `url` understands."""
    if DISCORD_PATH in urlsplit(url).path:
        return {"content": message.line[:DISCORD_MAX], "username": "rift", "allowed_mentions": {"parse": []}}
    escaped = message.line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": escaped}


async def send(session: aiohttp.ClientSession, url: str, message: Message) -> None:
    """Deliver one message, trying again for a while; raises WebhookError."""
    async for attempt in stamina.retry_context(on=_Transient, attempts=ATTEMPTS, timeout=TIMEOUT_S):
        with attempt:
            await _post(session, url, message)


async def _post(session: aiohttp.ClientSession, url: str, message: Message) -> None:
    host = urlsplit(url).hostname
    try:
        async with session.post(url, json=body_of(url, message), timeout=TIMEOUT, allow_redirects=False) as answer:
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _Transient(f"the webhook at {host} cannot be reached: {type(error).__name__}") from None
    if status in _LATER or status >= 500:
        raise _Transient(f"the webhook at {host} answered {status}")
    if status >= 300:
        raise WebhookError(f"the webhook at {host} answered {status}; check its URL")


async def deliver(urls: Sequence[str], message: Message) -> list[WebhookError]:
    """Send to every URL; returns what went wrong."""
    errors = []
    async with aiohttp.ClientSession() as session:
        for url in urls:
            try:
                await send(session, url, message)
            except WebhookError as error:
                errors.append(error)
    return errors
