"""A page of a listing, as the Blob service sends it."""

from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote
from xml.etree import ElementTree

from checkmate_core.errors import UnsupportedBackendException
from checkmate_core.types import ObjectInfo, Version

_DIRECTORY: Final = "hdi_isfolder"


def parse_page(body: bytes) -> tuple[list[ObjectInfo], str | None]:
    """The entries of a page, with keys for names, and the marker of the next page.

    Raises:
        UnsupportedBackendException: The body is no listing.
    """
    try:
        # Entities and external references are not expanded by this parser.
        root = ElementTree.fromstring(body)  # noqa: S314
        page = [_entry(blob) for blob in root.iterfind("Blobs/Blob") if not _is_directory(blob)]
    except (ElementTree.ParseError, ValueError, TypeError) as exc:
        raise UnsupportedBackendException(
            "the server answered with no listing: check that the endpoint is a Blob service's"
        ) from exc
    return page, root.findtext("NextMarker") or None


def _entry(blob: ElementTree.Element) -> ObjectInfo:
    return ObjectInfo(
        _name(blob),
        Version(blob.findtext("Properties/Etag", "").strip('"')),
        int(blob.findtext("Properties/Content-Length", "0")),
        parsedate_to_datetime(blob.findtext("Properties/Last-Modified", "")),
    )


def _name(blob: ElementTree.Element) -> str:
    element = blob.find("Name")
    text = "" if element is None else element.text or ""
    # So are names that XML cannot hold.
    is_encoded = element is not None and element.get("Encoded") == "true"
    return unquote(text) if is_encoded else text


def _is_directory(blob: ElementTree.Element) -> bool:
    # Where the account has a hierarchical namespace its directories are listed beside the objects.
    return (
        blob.findtext("Properties/ResourceType") == "directory"
        or blob.findtext(f"Metadata/{_DIRECTORY}", "").casefold() == "true"
    )
