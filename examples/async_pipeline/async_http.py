"""Just enough HTTP to get a page without blocking the loop. Yours is the client library you use already."""

import asyncio
from urllib.parse import urlsplit

LIMIT = 10_000_000
"""Most bytes of an answer."""


async def get(url: str) -> tuple[int, bytes]:
    """Status and body of a page.

    Raises:
        OSError: The server cannot be reached, or answers no HTTP, or too much of it.
    """
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=is_tls or None)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        answer = bytearray()
        while data := await reader.read(65536):
            answer += data
            if len(answer) > LIMIT:
                raise OSError(f"{url} answers with more than {LIMIT} bytes")
    finally:
        writer.close()
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise OSError(f"{url} answers no HTTP")
    return int(words[1]), body
