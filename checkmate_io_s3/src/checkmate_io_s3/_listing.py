"""A page of a listing, as S3 sends it, and the times that S3 and its imitators write."""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from botocore.utils import parse_timestamp


def parse_page(body: bytes) -> dict[str, Any] | None:
    """What the SDK's client makes of a page, as far as it is looked at; None where the body is no listing."""
    try:
        # Entities and external references are not expanded by this parser.
        root = ElementTree.fromstring(body)  # noqa: S314
        # Imitators leave it out.
        namespace, name, _ = root.tag.rpartition("ListBucketResult")
        decode = unquote_plus if root.findtext(f"{namespace}EncodingType") == "url" else str
        entries = [_entry(element, namespace, decode) for element in root.iterfind(f"{namespace}Contents")]
    except (ElementTree.ParseError, TypeError, ValueError):
        return None
    if not name:
        return None
    return {
        "Contents": entries,
        "IsTruncated": root.findtext(f"{namespace}IsTruncated") == "true",
        "NextContinuationToken": root.findtext(f"{namespace}NextContinuationToken"),
    }


def _entry(element: ElementTree.Element, namespace: str, decode: Callable[[str], str]) -> dict[str, Any]:
    return {
        "Key": decode(element.findtext(f"{namespace}Key", "")),
        "ETag": element.findtext(f"{namespace}ETag"),
        "Size": int(element.findtext(f"{namespace}Size", "")),
        "LastModified": parse_time(element.findtext(f"{namespace}LastModified")),
    }


def parse_time(value: Any) -> datetime:
    """A time in any of the formats that servers use, UTC where it does not say.

    Raises:
        ValueError: It is in none of them.
    """
    found: datetime
    try:
        # The SDK's own parser tries one format after another: it took most of a listing's time.
        found = datetime.fromisoformat(value) if value[:1].isdigit() else parsedate_to_datetime(value)
    except (TypeError, ValueError):
        found = parse_timestamp(value)
    # Some servers leave out that it is UTC.
    return found if found.tzinfo else found.replace(tzinfo=UTC)
