"""100 MB through the artifact routes, against a plain file server on the same machine in the same run.

    python -m benchmarks.artifacts [--size-mb 100] [--rounds 5] [--out benchmarks/results/artifacts.json]

Both servers are aiohttp over TLS in one process apart from the client; the plain one sends and takes files without
digests, ranges of uploads, syncs or copies. Medians of alternating rounds are compared. `upload` takes the file's
digest first, `upload_named` is told it, as a worker is by the runner that published the file.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import hashlib
import ipaddress
import json
import os
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.facts import facts
from config.cluster import ClusterSettings, StoreSettings, VoterAddress
from workqueue.http.artifacts import routes
from workqueue.machine.outcomes import Changed
from workqueue.store import ArtifactStore, DiskStore
from workqueue.transfer import Holders, get_artifact, put_artifact

PORT = 25400


@dataclass
class Context:
    """A voter's front without a log: registrations are accepted at once."""

    voter_id: str
    settings: ClusterSettings
    store: ArtifactStore
    holders: Any = None

    async def authenticate(self, request: web.Request, role: str) -> str:
        return role

    async def propose(self, *commands: Any) -> list[Any]:
        return [Changed() for _ in commands]

    async def query(self, name: str, /, **args: object) -> Any:
        return None


@dataclass
class Http:
    session: aiohttp.ClientSession
    servers: list[str]
    headers: dict[str, str] = field(default_factory=dict)


def certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8
    plain = key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(plain)


async def plain_put(request: web.Request) -> web.Response:
    with (Path(request.app["folder"]) / "put").open("wb") as file:
        async for block in request.content.iter_chunked(1 << 20):
            file.write(block)
    return web.Response(status=201)


def trusting(folder: Path) -> aiohttp.ClientSession:
    tls = ssl.create_default_context(cafile=folder / "cert.pem")
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls))


async def serve(folder: Path, index: int, replicas: int) -> None:
    addresses = tuple(VoterAddress(f"v{each}", "127.0.0.1") for each in range(2))
    settings = ClusterSettings("bench", addresses, store=StoreSettings(replicas=replicas, floor_mb=1))
    context = Context(f"v{index}", settings, DiskStore(folder / f"v{index}", quota_bytes=1 << 40, floor_bytes=1))
    app = web.Application(client_max_size=1 << 34)
    app["folder"] = str(folder / "plain")
    app.add_routes(routes(context))
    app.add_routes([web.put("/plain", plain_put), web.static("/static", folder / "plain")])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    async with trusting(folder) as session:
        trusted = ssl.create_default_context(cafile=folder / "cert.pem")
        context.holders = Holders({f"v{1 - index}": f"https://127.0.0.1:{PORT + 1 - index}"}, session, trusted)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", PORT + index, ssl_context=tls).start()
        await asyncio.Event().wait()


async def plain_upload(http: Http, path: Path) -> None:
    with path.open("rb") as file:
        async with http.session.put(f"{http.servers[0]}/plain", data=file) as answer:
            assert answer.status == 201


async def plain_download(http: Http, path: Path) -> None:
    with path.open("wb") as file:
        async with http.session.get(f"{http.servers[0]}/static/a") as answer:
            async for block in answer.content.iter_chunked(1 << 20):
                file.write(block)


async def timed(work: Any) -> float:
    start = time.perf_counter()
    await work
    return time.perf_counter() - start


async def measure(folder: Path, size: int, rounds: int) -> dict[str, list[float]]:
    names = ("plain_upload", "upload", "upload_named", "plain_download", "download")
    times: dict[str, list[float]] = {name: [] for name in names}
    async with trusting(folder) as session:
        http = Http(session, [f"https://127.0.0.1:{PORT}"])
        for turn in range(rounds):
            path = folder / "plain" / "a"
            path.write_bytes(os.urandom(size))
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            times["plain_upload"].append(await timed(plain_upload(http, path)))
            times["upload"].append(await timed(put_artifact(http, path, kind="weights")))
            path.write_bytes(os.urandom(size))
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            times["upload_named"].append(await timed(put_artifact(http, path, kind="weights", sha256=sha256)))
            times["plain_download"].append(await timed(plain_download(http, folder / "got")))
            (folder / "got").unlink()
            times["download"].append(await timed(get_artifact(http, sha256, folder / "got")))
            (folder / "got").unlink()
            print(f"round {turn + 1}: " + ", ".join(f"{name} {values[-1]:.2f} s" for name, values in times.items()))
    return times


def run(size_mb: int, rounds: int, replicas: int) -> dict[str, object]:
    folder = Path(tempfile.mkdtemp(prefix="rift-artifacts-"))
    (folder / "plain").mkdir()
    certificate(folder)
    command = [sys.executable, "-m", "benchmarks.artifacts", "--serve", str(folder), "--replicas", str(replicas)]
    servers = [subprocess.Popen([*command, "--index", str(index)]) for index in range(2)]
    try:
        asyncio.run(until_up(folder))
        times = asyncio.run(measure(folder, size_mb << 20, rounds))
    finally:
        for server in servers:
            server.kill()
            server.wait()
        shutil.rmtree(folder)
    mb_s = {name: round(size_mb / statistics.median(values), 1) for name, values in times.items()}
    return {
        "size_mb": size_mb,
        "rounds": rounds,
        "replicas": replicas,
        "mb_s": mb_s,
        "upload_ratio": round(mb_s["upload"] / mb_s["plain_upload"], 3),
        "upload_named_ratio": round(mb_s["upload_named"] / mb_s["plain_upload"], 3),
        "download_ratio": round(mb_s["download"] / mb_s["plain_download"], 3),
    }


async def until_up(folder: Path) -> None:
    async with trusting(folder) as session:
        for index in range(2):
            for _ in range(100):
                try:
                    async with session.head(f"https://127.0.0.1:{PORT + index}/v1/artifacts/{'0' * 64}"):
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/artifacts.json"))
    parser.add_argument("--serve", type=Path)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--replicas", type=int, default=1)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve, options.index, options.replicas))
        return
    results = [run(options.size_mb, options.rounds, replicas) for replicas in (1, 2)]
    document = facts() | {"command": "python -m benchmarks.artifacts", "results": results}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
