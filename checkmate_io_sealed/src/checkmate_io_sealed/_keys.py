"""The keys of a store: where they come from, and which is which."""

import base64
import binascii
import hashlib
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Final, TypeAlias, cast

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from checkmate_core.errors import (
    StorageUnavailableException,
    TaskEngineException,
    UnsupportedBackendException,
)
from checkmate_core.io.sealed_body import KEY_ID_SIZE

OneKey: TypeAlias = bytes | str
"""32 random bytes, their base64 text, or ``env:NAME``: an environment variable that holds such texts."""
Keys: TypeAlias = OneKey | Sequence[OneKey]
"""A key, or several, the newest first: that one seals, each opens."""
KeySource: TypeAlias = Keys | Callable[[], Keys]
"""Keys, or what gives them when it is called."""

_ENV: Final = "env:"
_SIZE: Final = 32
_HOW_TO_MAKE_ONE: Final = "`openssl rand -base64 32` makes one"
# How long an id that the source does not know is not asked for again, in seconds: a store that is full of
# foreign objects is no reason to call a key service for each of them.
_PATIENCE: Final = 5.0

# Held during a call of the source, which may itself open a sealed store in this thread.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.RLock()))


class Key:
    """A key and its id, a digest that tells it from others and does not tell what it is.

    Attributes:
        id: The first 8 bytes of a SHA-256 of it.
    """

    __slots__ = ("_cipher", "id")

    def __init__(self, key: bytes) -> None:
        self.id = hashlib.sha256(b"checkmate key id\0" + key).digest()[:KEY_ID_SIZE]
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return f"Key({self.id.hex()})"

    def encrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        return self._cipher.encrypt(nonce, data, associated)

    def decrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        """Raise `cryptography.exceptions.InvalidTag` unless all three are as they were encrypted."""
        return self._cipher.decrypt(nonce, data, associated)


class KeyRing:
    """The keys that a source gives. It is asked once, and again when an object needs a key that is not there.

    A callable is asked at the first use, anything else at once.
    """

    def __init__(self, source: KeySource) -> None:
        """Take what the source gives.

        Raises:
            UnsupportedBackendException: It is no key, or a variable is not set.
        """
        self._source = source
        self._keys: tuple[Key, ...] = () if callable(source) else _load(source)
        self._missed: dict[bytes, float] = {}

    def __repr__(self) -> str:
        return f"KeyRing({self.describe()})"

    def __reduce__(self) -> tuple[Any, ...]:
        if not callable(self._source) and not all(one[:4] == _ENV for one in _each(self._source)):
            raise TypeError(
                "a store that was opened with a key itself is not pickled, for the key would be in the pickle: "
                "open it with key='env:NAME', or with a function that gives the key"
            )
        return (KeyRing, (self._source,))

    @property
    def newest(self) -> Key:
        """The key that seals.

        Raises:
            StorageUnavailableException: The source did not give it.
        """
        return self._known()[0]

    @property
    def identity(self) -> Hashable:
        """Equal for two that give the same keys. Holds no key."""
        if callable(self._source):
            return self._source if isinstance(self._source, Hashable) else id(self._source)
        names = tuple(one for one in _each(self._source) if one[:4] == _ENV)
        return (names, tuple(key.id for key in self._keys))

    def describe(self) -> str:
        """The ids of the keys, in words."""
        return ", ".join(key.id.hex() for key in self._keys) or "none yet"

    def find(self, key_id: bytes) -> Key | None:
        """The key of this id, None if the source does not have it.

        Raises:
            StorageUnavailableException: The source did not answer.
        """
        found = _of_id(self._known(), key_id)
        if found is None and time.monotonic() - self._missed.get(key_id, -_PATIENCE) >= _PATIENCE:
            with _lock:
                self._ask_again()
                found = _of_id(self._keys, key_id)
                if found is None:
                    self._missed[key_id] = time.monotonic()
        return found

    def _ask_again(self) -> None:
        try:
            self._keys = _load(self._source)
        except UnsupportedBackendException:
            # Some take a secret out of the environment once it is read; the keys that were there are kept.
            if callable(self._source):
                raise

    def _known(self) -> tuple[Key, ...]:
        if not self._keys:
            with _lock:
                if not self._keys:
                    self._keys = _load(self._source)
        return self._keys


def _of_id(keys: tuple[Key, ...], key_id: bytes) -> Key | None:
    return next((key for key in keys if key.id == key_id), None)


def _load(source: KeySource) -> tuple[Key, ...]:
    keys = tuple(Key(key) for one in _each(_ask(source)) for key in _decode(one))
    if not keys:
        raise UnsupportedBackendException(f"the option 'key' is an empty list; {_HOW_TO_MAKE_ONE}")
    return keys


def _ask(source: KeySource) -> Keys:
    if not callable(source):
        return source
    try:
        return source()
    except TaskEngineException:
        raise
    except Exception as exc:
        # Its words are not repeated: whether they hold a key is not known here.
        raise StorageUnavailableException(
            f"the function given as 'key' raised {type(exc).__name__}, so nothing can be sealed or opened. Look at "
            "the error that this one was raised from, then try again"
        ) from exc


def _each(keys: Keys) -> tuple[OneKey, ...]:
    if isinstance(keys, bytes | str) or not isinstance(keys, Sequence):
        return (keys,)
    return tuple(cast(Sequence[OneKey], keys))


def _decode(one: OneKey) -> Iterator[bytes]:
    if isinstance(one, bytes):
        yield _checked(one, "the option 'key'")
    elif not isinstance(one, str):
        raise UnsupportedBackendException(
            f"the option 'key' is or holds a {type(one).__name__}: it takes 'env:NAME', {_SIZE} bytes, their base64 "
            "text, a list of these, or a function that returns such"
        )
    elif one.startswith(_ENV):
        name = one.removeprefix(_ENV)
        texts = os.environ.get(name, "").replace(",", " ").split()
        if not texts:
            raise UnsupportedBackendException(
                f"the environment variable {name}, which the option 'key' names, is not set or empty. Set it to a key "
                f"in base64, or to several, the newest first; {_HOW_TO_MAKE_ONE}"
            )
        for text in texts:
            yield _of_text(text, f"the environment variable {name}")
    else:
        yield _of_text(one, "the option 'key'")


def _of_text(text: str, where: str) -> bytes:
    standard = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        key = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise UnsupportedBackendException(
            f"{where} holds a text that is no base64 of {_SIZE} bytes; {_HOW_TO_MAKE_ONE}"
        ) from exc
    return _checked(key, where)


def _checked(key: bytes, where: str) -> bytes:
    if len(key) != _SIZE:
        raise UnsupportedBackendException(
            f"{where} holds a key of {len(key)} bytes; AES-256 takes {_SIZE} random ones: {_HOW_TO_MAKE_ONE}"
        )
    return key
