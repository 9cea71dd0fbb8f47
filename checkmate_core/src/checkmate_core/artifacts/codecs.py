"""What values become as bytes, and back. The library behind a codec is loaded when one is used."""

import json
from importlib import import_module
from io import RawIOBase
from typing import Any, BinaryIO, ClassVar, Final, Protocol

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from checkmate_core.errors import IncompatibleTaskException, InvalidStateException, TaskEngineException
from checkmate_core.record import faults_of


class Codec(Protocol):
    """One way to write a value."""

    name: ClassVar[str]

    def encode(self, value: Any, file: RawIOBase, what: str) -> None:
        """Write a value.

        Raises:
            InvalidStateException: The codec cannot hold it.
            TaskEngineException: The codec's library is not installed.
        """

    def decode(self, file: BinaryIO, expected: Any, what: str) -> Any:
        """Read a value; ``expected`` is the type that is wanted, or None.

        Raises:
            IncompatibleTaskException: It does not fit the type.
            TaskEngineException: The codec's library is not installed.
        """


class Plain:
    """Bytes as they are."""

    name: ClassVar[str] = "bytes"

    def encode(self, value: bytes | bytearray | memoryview, file: RawIOBase, what: str) -> None:
        file.write(value)

    def decode(self, file: BinaryIO, expected: Any, what: str) -> bytes:
        data = file.read()
        _checked(data, expected, what)
        return data


class Json:
    """A pydantic model by its runtime type."""

    name: ClassVar[str] = "json"

    def encode(self, value: BaseModel, file: RawIOBase, what: str) -> None:
        try:
            text = value.model_dump_json(warnings="none").encode()
        except (PydanticSerializationError, ValueError, TypeError, RecursionError) as exc:
            raise InvalidStateException(
                f"{what} cannot be stored as JSON: {exc}. Make it plain data"
            ) from exc
        try:
            found = type(value).model_validate_json(text)
        except ValidationError as exc:
            raise InvalidStateException(
                f"{what} cannot be read back as a {type(value).__name__}: {faults_of(exc)}. Assign what its fields' "
                "types say, or change the types"
            ) from exc
        # The representations are equal where a NaN keeps the values from being.
        if found != value and repr(found) != repr(value):
            raise InvalidStateException(
                f"{what} would come back as another {type(value).__name__} than it is. Declare its fields with the "
                "types that they hold, and write infinities and bytes as BaseStageState does (its model_config)"
            )
        file.write(text)

    def decode(self, file: BinaryIO, expected: Any, what: str) -> Any:
        data = file.read()
        if expected is None:
            return json.loads(data)
        try:
            return TypeAdapter(expected).validate_json(data)
        except ValidationError as exc:
            raise IncompatibleTaskException(
                f"{what} does not fit {getattr(expected, '__name__', expected)}: {faults_of(exc)}. Nothing was changed. "
                "Run the code that put it, or make the class read what is stored"
            ) from exc


class Npy:
    """A numpy array in numpy's own format, without pickle, a chunk at a time."""

    name: ClassVar[str] = "npy"

    def encode(self, value: Any, file: RawIOBase, what: str) -> None:
        if type(value).__name__ not in ("ndarray", "memmap") or value.dtype.hasobject:
            raise InvalidStateException(
                f"{what} is a {type(value).__name__} of {value.dtype}: the npy codec stores plain arrays of plain "
                "numbers, text and records. Put numpy.asarray(…) of a type without Python objects in it"
            )
        _library("numpy.lib.format", "numpy", what).write_array(file, value, allow_pickle=False)

    def decode(self, file: BinaryIO, expected: Any, what: str) -> Any:
        try:
            value = _library("numpy.lib.format", "numpy", what).read_array(file, allow_pickle=False)
        except ValueError as exc:
            raise IncompatibleTaskException(
                f"{what} is no array in numpy's format without pickle: {exc}"
            ) from exc
        return _checked(value, expected, what)


class Parquet:
    """An Arrow table as a Parquet file."""

    name: ClassVar[str] = "parquet"

    def encode(self, value: Any, file: RawIOBase, what: str) -> None:
        arrow = _library("pyarrow", "arrow", what)
        try:
            _library("pyarrow.parquet", "arrow", what).write_table(value, file)
        except arrow.ArrowException as exc:
            raise InvalidStateException(
                f"{what} cannot be stored as Parquet: {exc}. Cast the column to a type that Parquet has"
            ) from exc

    def decode(self, file: BinaryIO, expected: Any, what: str) -> Any:
        arrow = _library("pyarrow", "arrow", what)
        # Parquet is read from its end. Read through first, the whole is verified.
        content = arrow.BufferReader(file.read())
        try:
            value = _library("pyarrow.parquet", "arrow", what).read_table(content)
        except arrow.ArrowException as exc:
            raise IncompatibleTaskException(f"{what} is no Parquet file: {exc}") from exc
        return _checked(value, expected, what)


CODECS: Final[dict[str, Codec]] = {codec.name: codec for codec in (Plain(), Json(), Npy(), Parquet())}


def codec_named(name: str, what: str) -> Codec:
    """The codec of this name.

    Raises:
        IncompatibleTaskException: There is none.
    """
    if name not in CODECS:
        raise IncompatibleTaskException(
            f"{what} has the codec {name!r}, which this CheckMate does not know (it knows {', '.join(CODECS)}). "
            "Read its bytes, or use the version that put it"
        )
    return CODECS[name]


def codec_for(value: object) -> Codec | None:
    """The codec that a value's type asks for; None for a type that has none. Imports nothing."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return CODECS["bytes"]
    if isinstance(value, BaseModel):
        return CODECS["json"]
    for cls in type(value).__mro__:
        found = (cls.__module__.partition(".")[0], cls.__name__)
        if found == ("numpy", "ndarray"):
            return CODECS["npy"]
        if found == ("pyarrow", "Table"):
            return CODECS["parquet"]
    return None


def _library(module: str, extra: str, what: str) -> Any:
    try:
        return import_module(module)
    except ImportError as exc:
        raise TaskEngineException(
            f"{what} needs {module.partition('.')[0]}, which cannot be imported ({exc}): "
            f"pip install 'checkmate[{extra}]'. Its bytes can be read without"
        ) from exc


def _checked(value: Any, expected: Any, what: str) -> Any:
    if expected is not None and not isinstance(value, expected):
        raise IncompatibleTaskException(
            f"{what} is a {type(value).__name__}, not a {expected.__name__}. Nothing was changed. Load it as what was "
            "put, or run the stage that puts it again"
        )
    return value
