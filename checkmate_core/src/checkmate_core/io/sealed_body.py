"""How a sealed body is recognised, without what it takes to open it.

A body that a layer has compressed or encrypted begins with a header, of which the core knows this much:

    4 bytes  89 43 4D 53, which no JSON begins with
    1 byte   version of the format
    1 byte   flags: 1 compressed, 2 encrypted
    8 bytes  id of the key, if it is encrypted

`docs/adr/0009-sealing.md` has the rest.
"""

from typing import Final

MAGIC: Final = b"\x89CMS"
FORMAT: Final = 1
COMPRESSED: Final = 1
ENCRYPTED: Final = 2
KEY_ID_SIZE: Final = 8

_FLAGS = len(MAGIC) + 1
_KEY_ID = _FLAGS + 1


def describe_seal(data: bytes) -> str | None:
    """How a body is sealed and how it is opened, in words; None if it is not sealed."""
    if not data.startswith(MAGIC) or len(data) <= _FLAGS:
        return None
    if data[_FLAGS] & ENCRYPTED:
        key_id = data[_KEY_ID : _KEY_ID + KEY_ID_SIZE].hex()
        return (
            f"sealed with the key {key_id}, and the store was opened without a key. Open it with that key: "
            "key='env:NAME', or ?key=env:NAME in its URL, where the environment variable NAME holds it"
        )
    return (
        "sealed (compressed, not encrypted), and the store was opened without that. Open it with "
        "compress='zstd', or ?compress=zstd in its URL"
    )
