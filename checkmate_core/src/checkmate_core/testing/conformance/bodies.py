"""Bodies that a store might mangle."""

import os
from typing import Final

MEBIBYTE: Final = 1024 * 1024

BODIES: Final[dict[str, bytes]] = {
    "empty": b"",
    "one byte": b"\x00",
    "text with line ends": b"a\r\nb\rc\n\n",
    "surrounding whitespace": b"  body \t\n",
    "every byte": bytes(range(256)),
    "not UTF-8": b"\xff\xfe\x80\xc3(",
    "gzip magic": b"\x1f\x8b\x08\x00not really gzip",
    "5 MiB and a byte": os.urandom(MEBIBYTE) * 5 + b"!",
}
"""Bodies by what is special about them."""
