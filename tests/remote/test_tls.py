"""Deployments behind TLS: the server's certificate is checked, and ALPN says which HTTP is spoken."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypercorn.asyncio import serve
from hypercorn.config import Config

from agentdur import App, Context, Service
from agentdur.admin.app import create_admin
from agentdur.core import journal as j
from agentdur.core.ports import Request
from tests.http.reference_server import free_ports

far = Service("Far")


@far.handler()
async def work(ctx: Context) -> str:
    return await ctx.run("one", lambda: "done")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, signed by itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now, day = datetime.now(UTC), timedelta(days=1)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
        .add_extension(addresses, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def endpoint(certificate: Path, *protocols: str) -> Iterator[str]:
    """agentdur's own endpoint under hypercorn; yields its URI."""
    (port,) = free_ports(1)
    config = Config()
    config.bind, config.alpn_protocols = [f"127.0.0.1:{port}"], list(protocols)
    config.certfile = config.keyfile = str(certificate)
    config.errorlog = None
    stopping = threading.Event()

    async def stopped() -> None:
        while not stopping.is_set():
            await asyncio.sleep(0.02)

    async def main() -> None:
        app: Any = App([far]).endpoint()
        await serve(app, config, shutdown_trigger=stopped)

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    uri = f"https://127.0.0.1:{port}"
    while not answers(uri, certificate) and thread.is_alive():
        time.sleep(0.02)
    try:
        yield uri
    finally:
        stopping.set()
        thread.join(10)


def answers(uri: str, certificate: Path) -> bool:
    try:
        return httpx.get(f"{uri}/health", verify=ssl.create_default_context(cafile=certificate)).is_success
    except httpx.HTTPError:
        return False


async def registered(uri: str) -> tuple[httpx.Response, dict[str, Any], j.Result | None]:
    """The answer, the deployment, and what a handler of it returned."""
    async with App().running("memory://") as engine:
        app = create_admin(engine, deployments=engine.deployments)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin") as http:
            answer = await http.post("/deployments", json={"uri": uri})
            if answer.status_code != 201:
                return answer, {}, None
            shown = (await http.get(f"/deployments/{answer.json()['id']}")).json()
            target = engine.catalog.target("Far", "work")
            assert target is not None
            _, done = engine.call(Request(target=target))
            return answer, shown, (await asyncio.wait_for(done, 10)).result


@pytest.mark.parametrize(
    ("protocols", "version"),
    [(("h2", "http/1.1"), "HTTP/2.0"), (("http/1.1",), "HTTP/1.1"), ((), "HTTP/1.1")],
    ids=["both", "only HTTP/1.1", "says nothing"],
)
@pytest.mark.slow
async def test_the_server_chooses_the_protocol(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, protocols: tuple[str, ...], version: str
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with endpoint(certificate, *protocols) as uri:
        _, shown, result = await registered(uri)
    assert shown["http_version"] == version
    assert result == j.Success(b'"done"')


@pytest.mark.slow
async def test_a_certificate_that_nobody_signed_is_not_trusted(certificate: Path):
    with endpoint(certificate, "h2") as uri:
        answer, _, _ = await registered(uri)
    assert (answer.status_code, answer.json()["restate_code"]) == (500, "META0003")
    assert "certificate verify failed" in answer.json()["message"]
