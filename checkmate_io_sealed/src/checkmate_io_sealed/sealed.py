"""SealedTaskIO: any store, with bodies compressed and encrypted."""

import os
import threading
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, ClassVar, Final, Literal
from weakref import WeakValueDictionary

from checkmate_core.errors import (
    CorruptObjectException,
    UnsupportedBackendException,
)
from checkmate_core.io.names import check_object_name
from checkmate_core.io.protocol import TaskIO
from checkmate_core.types import (
    ANY,
    Capability,
    Expect,
    ObjectInfo,
    RemoveExpect,
    StoredObject,
    Version,
)
from checkmate_io_sealed._envelope import Envelope
from checkmate_io_sealed._keys import KeyRing, KeySource

_NO_LOCKS: Final = "it cannot create and swap objects atomically"

_clients: WeakValueDictionary[Hashable, "SealedTaskIO"] = WeakValueDictionary()
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.Lock()))


class SealedTaskIO:
    """A store below, every body of which is sealed on its way there and opened on its way back.

    Costs no request of its own. Names, sizes as listed, and times are those of the store below: what
    is in them is not hidden. Versions are its versions, too; a nonce at each write makes them unique.

    Options, in a URL or as keywords:

    * ``compress``: ``zstd``. Objects that are not sealed are read as well, so that it can be switched
      on for a store that is there.
    * ``key``: ``env:NAME``; as a keyword also 32 bytes, their base64 text, a list of these with the
      newest first, or a function that returns such, called once and again for a key that is not there.
    * ``allow_plain``: objects that are not encrypted are read although there is a key.
    """

    url_options: ClassVar[frozenset[str]] = frozenset({"allow_plain", "compress", "key"})

    def __init__(
        self,
        io: TaskIO,
        *,
        compress: Literal["zstd"] | None = None,
        key: KeySource | None = None,
        allow_plain: bool | str = False,
    ) -> None:
        """Wrap a store. Makes no request.

        Args:
            io: The store below.
            compress: How to compress; None leaves bodies as long as they are.
            key: What to encrypt with; None does not encrypt.
            allow_plain: Whether to read what is not encrypted although there is a key.

        Raises:
            UnsupportedBackendException: An option has a value that is not taken.
        """
        if compress not in (None, "zstd"):
            raise UnsupportedBackendException(
                f"{io.base_url} can be compressed by 'zstd', not by {compress!r}"
            )
        if allow_plain not in (True, False, "true", "false"):
            raise UnsupportedBackendException(f"allow_plain is true or false, not {allow_plain!r}")
        is_plain_allowed = allow_plain in (True, "true")
        if is_plain_allowed and key is None:
            raise UnsupportedBackendException(
                f"allow_plain goes with a key, and {io.base_url} was opened without"
            )
        self.below = io
        self._keys = None if key is None else KeyRing(key)
        self._compress = compress
        self._is_plain_allowed = is_plain_allowed
        self._envelope = Envelope(self._keys, compress=compress is not None, allow_plain=is_plain_allowed)

    @classmethod
    def over(cls, io: TaskIO, **options: Any) -> TaskIO:
        """The store ``io`` with these options; equal ones give one client as long as it is in use."""
        if all(options.get(name) in (None, False, "false") for name in cls.url_options):
            return io
        made = cls(io, **options)
        with _lock:
            return _clients.setdefault(made._identity, made)

    def __repr__(self) -> str:
        how = [f"compress={self._compress!r}"] if self._compress else []
        how += [f"keys: {self._keys.describe()}"] if self._keys else []
        return f"{type(self).__name__}({', '.join([repr(self.base_url), *how])})"

    @property
    def base_url(self) -> str:
        return self.below.base_url

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.below.capabilities

    @property
    def probe_scope(self) -> str | None:
        return self.below.probe_scope

    @property
    def no_locks_because(self) -> str | None:
        """Why the store below can hold no lock."""
        reason: str | None = getattr(self.below, "no_locks_because", _NO_LOCKS)
        return reason

    @property
    def without_remove_if(self) -> str | None:
        """How the store below is opened so that it removes nothing on a condition."""
        how: str | None = getattr(self.below, "without_remove_if", None)
        return how

    @property
    def newest_key_id(self) -> str | None:
        """The id of the key that writes are sealed with; None where they are not encrypted."""
        return self._keys.newest.id.hex() if self._keys else None

    def build_url(self, obj_name: str) -> str:
        return self.below.build_url(obj_name)

    def exists(self, obj_name: str) -> bool:
        return self.below.exists(obj_name)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Sizes are those of the sealed bodies."""
        return self.below.list(prefix)

    def read(self, obj_name: str) -> StoredObject:
        stored = self.below.read(obj_name)
        return StoredObject(self._open(obj_name, stored), stored.version, stored.age)

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        """Of an object that cannot be opened, the version is there, and its ``data`` raises why."""
        found = {}
        for name, stored in self.below.read_many(obj_names).items():
            try:
                found[name] = StoredObject(self._open(name, stored), stored.version, stored.age)
            except CorruptObjectException as exc:
                found[name] = _UnopenedObject(exc, stored)
        return found

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        return self.below.write(
            obj_name, self._envelope.seal(check_object_name(obj_name), bytes(data)), expect=expect
        )

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        self.below.remove(obj_name, expect=expect)

    def is_current(self, obj_name: str, sealed: bytes) -> bool:
        """Whether a body, as the store below has it, is sealed as a write would seal it now.

        Raises:
            CorruptObjectException: It was changed.
        """
        return self._envelope.is_current(sealed, self.build_url(obj_name))

    def reseal(self, obj_name: str) -> bool:
        """Seal an object as a write would now, by a swap on the version that was read. Two requests at most.

        Its version changes under whoever has read it, and nothing else does.

        Returns:
            False if it was sealed so already.

        Raises:
            PersistenceDataNotFoundException: There is no such object.
            VersionConflictException: Somebody wrote it meanwhile. Look again.
            SealedObjectException: It is sealed with another key than those given, or not at all.
            CorruptObjectException: It was changed.
        """
        stored = self.below.read(obj_name)
        if self.is_current(obj_name, stored.data):
            return False
        self.write(obj_name, self._open(obj_name, stored), expect=stored.version)
        return True

    @property
    def _identity(self) -> Hashable:
        keys = self._keys.identity if self._keys else None
        return (id(self.below), self._compress, self._is_plain_allowed, keys)

    def _open(self, obj_name: str, stored: StoredObject) -> bytes:
        return self._envelope.open(obj_name, stored.data, self.build_url(obj_name))


class _UnopenedObject(StoredObject):
    """One of several objects read, which cannot be opened.

    Whoever asks for its body is told why; whoever asks for the others' gets them.
    """

    __slots__ = ("_fault",)

    def __init__(self, fault: CorruptObjectException, stored: StoredObject) -> None:
        object.__setattr__(self, "_fault", fault)
        object.__setattr__(self, "version", stored.version)
        object.__setattr__(self, "age", stored.age)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.version!r})"

    @property
    def data(self) -> bytes:  # pyright: ignore[reportIncompatibleVariableOverride]
        fault: CorruptObjectException = object.__getattribute__(self, "_fault")
        raise fault
