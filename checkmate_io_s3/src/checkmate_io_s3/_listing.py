"""A page of a listing, as S3 sends it, and the times that S3 and its imitators write."""

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
    except ElementTree.ParseError:
        return None
    if _name(root) != "ListBucketResult":
        return None
    page: dict[str, Any] = {_name(child): child.text for child in root if not len(child)}
    decode = unquote_plus if page.get("EncodingType") == "url" else str
    entries = [
        {_name(child): child.text or "" for child in entry} for entry in root if _name(entry) == "Contents"
    ]
    for entry in entries:
        entry["Key"] = decode(entry["Key"])
    return {
        "Contents": [
            entry | {"Size": int(entry["Size"]), "LastModified": parse_time(entry["LastModified"])}
            for entry in entries
        ],
        "IsTruncated": page.get("IsTruncated") == "true",
        "NextContinuationToken": page.get("NextContinuationToken"),
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


def _name(element: ElementTree.Element) -> str:
    # Imitators leave out the namespace.
    return element.tag.rpartition("}")[2]
