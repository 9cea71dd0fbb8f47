"""Keys of the tests, and what a store below holds."""

import base64
from typing import cast

from checkmate import TaskIO
from checkmate_core.io.registry import open_task_io
from checkmate_core.io.sealed_body import KEY_ID_SIZE
from checkmate_io_sealed._keys import Key
from checkmate_io_sealed.sealed import SealedTaskIO

OLD, NEW, OTHER = (bytes([number] * 31 + [7]) for number in (1, 2, 3))
KEYS = (OLD, NEW, OTHER)


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def id_of(key: bytes) -> str:
    return Key(key).id.hex()


def opened(url: str, **options: object) -> SealedTaskIO:
    return cast(SealedTaskIO, open_task_io(url, **options))


def stored(url: str) -> dict[str, bytes]:
    """What lies in the store, byte for byte, as whoever has no key sees it."""
    io: TaskIO = open_task_io(url)
    return {info.name: io.read(info.name).data for info in io.list()}


def key_ids(url: str) -> dict[str, str]:
    """Which key each object is sealed with."""
    return {name: data[6 : 6 + KEY_ID_SIZE].hex() for name, data in stored(url).items()}


def holds_a_key(said: object) -> bool:
    """Whether a key stands in a text or in bytes, in any of the forms that one has."""
    raw = said if isinstance(said, bytes) else str(said).encode("utf-8", "surrogateescape")
    forms = (
        form for key in KEYS for form in (key, text(key).encode(), key.hex().encode(), repr(key).encode())
    )
    return any(form in raw for form in forms)
