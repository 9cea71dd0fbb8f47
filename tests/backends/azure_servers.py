"""Blob services for tests: Azurite behind a recorder, Azurite on HTTPS, and one that answers as told."""

import base64
import ipaddress
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from azure.core.credentials import AccessToken
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from checkmate.testing._azure import ACCOUNT, AZURITE_LISTENS, KEY, azurite_command
from checkmate.testing._server_process import server_process

# The emulator's account and key, which everybody knows, stand for secrets in these tests.


def connection_string(endpoint: str, **fields: str) -> str:
    account = {"AccountName": ACCOUNT, "AccountKey": KEY}
    return "".join(
        f"{name}={value};" for name, value in ({"BlobEndpoint": endpoint} | (fields or account)).items()
    )


@dataclass(frozen=True)
class Seen:
    """One HTTP request.

    Attributes:
        method: Its method.
        target: Path and query.
        headers: Its headers; names in lower case.
    """

    method: str
    target: str
    headers: dict[str, str]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        pass  # a client that went away


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[Seen]

    def do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append(Seen(self.command, self.path, headers))
        status, answered, data = self.answer(body)
        self.send_response_only(status)  # no Date but the other's
        for name, value in answered.items():
            self.send_header(name, value)
        if "content-length" not in {name.lower() for name in answered}:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_DELETE = do_HEAD = do  # noqa: N815

    def answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        raise NotImplementedError

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def _serving(handler: type[_Handler]) -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Recorded:
    """Azurite, and what it was asked.

    Attributes:
        endpoint: The URL to ask it at, account included.
        requests: The requests since it was last cleared.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.requests: list[Seen] = []


@contextmanager
def recorded(azurite: str) -> Iterator[Recorded]:
    state = Recorded()
    target = urlsplit(azurite)

    class Handler(_Handler):
        seen = state.requests

        def answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            assert target.hostname
            connection = HTTPConnection(target.hostname, target.port)
            try:
                connection.request(self.command, self.path, body or None, dict(self.headers))
                reply = connection.getresponse()
                data = reply.read()
            finally:
                connection.close()
            kept = {
                name: value
                for name, value in reply.getheaders()
                if name.lower() not in ("connection", "keep-alive", "transfer-encoding")
            }
            return reply.status, kept, data

    with _serving(Handler) as url:
        state.endpoint = f"{url}/{ACCOUNT}"
        yield state


class Answering:
    """A server whose next answers a test writes down; the last one is repeated.

    Attributes:
        answers: Status, headers and body.
        requests: The requests so far.
        endpoint: Its URL, account included.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.requests: list[Seen] = []
        self.endpoint = ""

    def will(self, status: int, code: str | None = None, body: bytes | None = None, **headers: str) -> None:
        named = {name if "-" in name else name.replace("_", "-"): value for name, value in headers.items()}
        if code is not None:
            named["x-ms-error-code"] = code
        words = (
            f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>in its words: {KEY}</Message></Error>"
        )
        self.answers.append((status, named, words.encode() if body is None and code else body or b""))


@contextmanager
def answering() -> Iterator[Answering]:
    state = Answering()

    class Handler(_Handler):
        seen = state.requests

        def answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            status, headers, data = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            return status, headers, b"" if self.command == "HEAD" else data

    with _serving(Handler) as url:
        state.endpoint = f"{url}/{ACCOUNT}"
        yield state


@dataclass(frozen=True)
class Secure:
    """Azurite on HTTPS, where it takes tokens too.

    Attributes:
        host: Host, port and account, as the option ``account_host`` has them.
        authority: The file of the certificate to trust.
    """

    host: str
    authority: str


@contextmanager
def secure_azurite(folder: Path) -> Iterator[Secure]:
    certificate, key = _certificate(folder)

    def command(port: int) -> list[str]:
        return azurite_command(port, "--oauth", "basic", "--cert", str(certificate), "--key", str(key))

    with server_process(command, folder / "log", AZURITE_LISTENS, name="Azurite") as port:
        yield Secure(f"127.0.0.1:{port}/{ACCOUNT}", str(certificate))


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return paths


class Token:
    """An asynchronous credential whose tokens Azurite takes: it looks at their claims alone."""

    def __init__(self) -> None:
        self.is_closed = False
        now = int(time.time())
        claims = {
            "aud": "https://storage.azure.com",
            "iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000000/",
            "nbf": now - 60,
            "iat": now - 60,
            "exp": now + 3600,
            "appid": "checkmate",
        }
        parts = (_encoded(part) for part in ({"alg": "none", "typ": "JWT"}, claims))
        self.text = ".".join([*parts, "unsigned"])

    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken(self.text, int(time.time()) + 3600)

    async def close(self) -> None:
        self.is_closed = True


def _encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
