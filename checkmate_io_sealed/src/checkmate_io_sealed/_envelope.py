"""The sealed form of a body.

    4 bytes   89 43 4D 53
    1 byte    version: 1
    1 byte    flags: 1 compressed by zstd, 2 encrypted by AES-256-GCM
    8 bytes   id of the key                                               } if it is
    12 bytes  nonce                                                       } encrypted
    4 bytes   CRC-32 of all above, so that damage is told from a wrong key; unless it is encrypted, of the rest, too
    the rest  the body: compressed, then encrypted, its tag of 16 bytes at the end

Header and name of the object are associated data: neither can be changed, nor the object be put under
another name. See `docs/adr/0009-sealing.md`.
"""

import os
import struct
import zlib
from typing import Final, NamedTuple

import zstandard
from cryptography.exceptions import InvalidTag

from checkmate_core.errors import CorruptObjectException, SealedObjectException, UnsupportedBackendException
from checkmate_core.io.sealed_body import (
    COMPRESSED,
    ENCRYPTED,
    FORMAT,
    KEY_ID_SIZE,
    MAGIC,
    describe_seal,
)
from checkmate_io_sealed._keys import KeyRing

_NONCE_SIZE: Final = 12
_START = struct.Struct(f"{len(MAGIC)}sBB")
_KEY_PART = struct.Struct(f"{KEY_ID_SIZE}s{_NONCE_SIZE}s")
_CRC = struct.Struct(">I")
# What a compressed body may unfold to: as much as this, or as much as this factor makes of it, whichever is
# more. A body that would be beyond it is stored uncompressed, so whatever claims more is no body of ours.
_ALWAYS_ALLOWED: Final = 64 * 1024 * 1024
_MAX_RATIO: Final = 1000


class _Header(NamedTuple):
    flags: int
    key_id: bytes
    nonce: bytes
    size: int


class Envelope:
    """Seals and opens bodies by the options of one store."""

    def __init__(self, keys: KeyRing | None, *, compress: bool, allow_plain: bool) -> None:
        self.keys = keys
        self._compress = compress
        self._allow_plain = allow_plain

    def seal(self, obj_name: str, data: bytes) -> bytes:
        """The stored form of a body, another one at each call where there is a key.

        Raises:
            StorageUnavailableException: The key cannot be had.
            UnsupportedBackendException: The body is larger than AES-GCM takes at once, 2 GB.
        """
        flags, body = 0, data
        if self._compress:
            packed = zstandard.ZstdCompressor().compress(data)
            if len(packed) < len(data) <= _limit(packed):
                flags, body = COMPRESSED, packed
        if self.keys is None:
            header = _START.pack(MAGIC, FORMAT, flags)
            return header + _crc(header, body) + body
        key, nonce = self.keys.newest, os.urandom(_NONCE_SIZE)
        header = _START.pack(MAGIC, FORMAT, flags | ENCRYPTED) + _KEY_PART.pack(key.id, nonce)
        header += _crc(header)
        try:
            return header + key.encrypt(nonce, body, header + obj_name.encode())
        except OverflowError as exc:
            raise UnsupportedBackendException(
                f"{obj_name} has {len(body):,} bytes, and AES-GCM takes less than 2 GB at once. Nothing was written. "
                "Store it in parts, or without a key"
            ) from exc

    def open(self, obj_name: str, data: bytes, url: str) -> bytes:
        """The body of a stored form.

        Raises:
            SealedObjectException: It needs another key than those given, or is not sealed and must be.
            CorruptObjectException: It was changed.
            StorageUnavailableException: The key cannot be had.
        """
        header = _read_header(data, url)
        if header is None or not header.flags & ENCRYPTED:
            self._check_plain_is_allowed(header is not None, url)
            body = data if header is None else data[header.size :]
        else:
            body = self._decrypt(obj_name, data, header, url)
        return _unpack(body, url) if header and header.flags & COMPRESSED else body

    def is_current(self, data: bytes, url: str) -> bool:
        """Whether a stored form is sealed as `seal` would seal it now, by the newest key.

        Raises:
            CorruptObjectException: Its header was changed.
        """
        header = _read_header(data, url)
        if header is None:
            return False
        if self.keys is None:
            return not header.flags & ENCRYPTED
        return bool(header.flags & ENCRYPTED) and header.key_id == self.keys.newest.id

    def _check_plain_is_allowed(self, is_compressed: bool, url: str) -> None:
        if self.keys is not None and not self._allow_plain:
            raise SealedObjectException(
                f"{url} is not encrypted{' but only compressed' if is_compressed else ''}, and the store was opened "
                "with a key: it was written without one, or put there by somebody who has none, or its first bytes "
                "were changed. It was not used. While a store is moved over, allow_plain=True reads such objects, and "
                "`checkmate reseal` seals them"
            )

    def _decrypt(self, obj_name: str, data: bytes, header: _Header, url: str) -> bytes:
        if self.keys is None:
            raise SealedObjectException(f"{url} is {describe_seal(data)}. Nothing was changed")
        key = self.keys.find(header.key_id)
        if key is None:
            raise SealedObjectException(
                f"{url} is sealed with the key {header.key_id.hex()}, which is none of those given "
                f"({self.keys.describe()}). Nothing was changed. Give that key too, behind the newest: "
                "key=[NEWEST, …, THAT], or in the same environment variable"
            )
        associated = data[: header.size] + obj_name.encode()
        try:
            return key.decrypt(header.nonce, data[header.size :], associated)
        except InvalidTag as exc:
            raise CorruptObjectException(
                f"{url} was changed, cut off, or copied there from another name: what the key {header.key_id.hex()} "
                "sealed was something else. It was not used. Restore it from a backup, or remove it if it is not needed"
            ) from exc


def _crc(header: bytes, body: bytes = b"") -> bytes:
    return _CRC.pack(zlib.crc32(body, zlib.crc32(header)))


def _read_header(data: bytes, url: str) -> _Header | None:
    if not data.startswith(MAGIC):
        return None
    try:
        _, version, flags = _START.unpack_from(data)
        if version != FORMAT:
            raise SealedObjectException(
                f"{url} is sealed in format {version}, and this release reads format {FORMAT}: it was changed, or a "
                "newer release wrote it. Nothing was changed. Use the release that wrote it, or restore the object"
            )
        size = _START.size
        key_id = nonce = b""
        if flags & ENCRYPTED:
            key_id, nonce = _KEY_PART.unpack_from(data, size)
            size += _KEY_PART.size
    except struct.error as exc:
        raise _damaged(url, "is cut off within its header") from exc
    end = size + _CRC.size
    # What is encrypted has a better checksum of its own.
    if data[size:end] != _crc(data[:size], b"" if flags & ENCRYPTED else data[end:]):
        raise _damaged(url, "was changed or cut off: its checksum is wrong,")
    return _Header(flags, key_id, nonce, end)


def _unpack(body: bytes, url: str) -> bytes:
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= _limit(body):
            raise _damaged(
                url,
                f"claims to unfold from {len(body):,} bytes to {size:,}, which nothing written here does,",
            )
        return zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as exc:
        raise _damaged(url, f"cannot be decompressed ({exc})") from exc


def _limit(packed: bytes) -> int:
    return max(_ALWAYS_ALLOWED, _MAX_RATIO * len(packed))


def _damaged(url: str, fault: str) -> CorruptObjectException:
    return CorruptObjectException(
        f"{url} {fault} and was not used. Restore it from a backup, or remove it if it is not needed"
    )
