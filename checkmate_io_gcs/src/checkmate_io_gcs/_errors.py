"""What Cloud Storage answers, as errors of the core."""

from aiohttp import ClientError, ClientSSLError

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskIOException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.types import ANY, Expect
from checkmate_io_gcs._requests import CredentialsError, RefusedError

CREDENTIALS = "pass token=, set GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login"
_FIXES_BY_REASON = {
    "requesterPays": "the bucket's requester pays: pass requester_pays=True or the project that pays",
    "accountDisabled": "the project's billing account is closed: have it opened",
    "insufficientPermissions": "these credentials' scopes do not allow it: get some with the scope "
    "devstorage.read_write",
    "quotaExceeded": "the project's quota is used up: wait, or have it raised",
    "rateLimitExceeded": "the service asks for fewer requests: try again later",
    "userRateLimitExceeded": "the service asks for fewer requests: try again later",
    "retentionPolicyNotMet": "the bucket's retention policy keeps objects from being changed: use another "
    "bucket, or remove the policy",
    "objectUnderActiveHold": "the object is under a hold: release it",
}
_FIXES = {
    400: "prefix and name together may have 1024 bytes, and the bucket must be spelt as the service has it",
    409: "another request for this object was under way: send it again",
    413: "the body is larger than the server takes: store less in one value",
    429: "the object is written more than about once a second, which is all that the service allows: "
    "let fewer processes write it, or make fewer, longer stages",
}
_PERMISSIONS = {
    "list": ("storage.objects.list",),
    "write": ("storage.objects.create", "storage.objects.delete"),
    "remove": ("storage.objects.delete",),
}
_READING = ("storage.objects.get", "storage.objects.list")
# What a permission is needed for where that is no matter of course.
_WHY = {
    ("write", "storage.objects.delete"): ", without which no object can be replaced",
    ("read", "storage.objects.list"): ", without which a missing object reads as forbidden",
    ("look for", "storage.objects.list"): ", without which a missing object reads as forbidden",
}


def failure(exc: Exception, what: str, url: str, bucket: str, expect: Expect) -> TaskIOException | None:
    """The error of the core that ``exc`` means, or None where nothing more is known about it."""
    start = f"cannot {what} {url}: "
    match exc:
        case RefusedError():
            return _refused(exc, what, url, bucket, expect)
        case CredentialsError():
            return StorageUnavailableException(
                f"{start}the credentials could not be refreshed ({exc}); {CREDENTIALS}."
            )
        case ClientSSLError():
            return StorageUnavailableException(
                f"{start}the endpoint's certificate is not trusted; set SSL_CERT_FILE to the authority's "
                "file, or fix endpoint_url."
            )
        case ClientError() | TimeoutError():
            return StorageUnavailableException(
                f"{start}the endpoint did not answer ({type(exc).__name__}); "
                "check endpoint_url and the network."
            )
        case _:
            return None


def _refused(exc: RefusedError, what: str, url: str, bucket: str, expect: Expect) -> TaskIOException:
    # Nothing to be missing where an object is listed or made: what is not found is the bucket.
    missing = exc.missing if exc.status == 404 else None
    if missing == "object" and (what == "list" or (what == "write" and not isinstance(expect, str))):
        missing = "bucket"
    if (exc.status == 412 and expect is not ANY) or (missing == "object" and isinstance(expect, str)):
        found = "another version" if exc.status == 412 else "no object"
        wanted = expect if isinstance(expect, str) else "no object"
        return VersionConflictException(
            f"{url} has another version than expected (expected {wanted}, found {found})"
        )
    if missing == "object" and what == "read":
        return PersistenceDataNotFoundException(f"there is no object {url}")
    start = f"cannot {what} {url}: "
    if missing == "bucket":
        return StorageUnavailableException(
            f"{start}there is no bucket {bucket!r}. Create it, or fix the URL or its endpoint_url."
        )
    if exc.status == 501 and expect is not ANY:
        return UnsupportedBackendException(
            f"{start}the server does not do conditional requests ({exc}). "
            "Use one that does, or no_lock=True without any protection against a second run."
        )
    return StorageUnavailableException(f"{start}the service answered {exc}; {_fix(exc, what, bucket)}.")


def _fix(exc: RefusedError, what: str, bucket: str) -> str:
    by_reason = _FIXES_BY_REASON.get(exc.reason) if exc.status != 429 else None
    if by_reason:
        return by_reason
    if exc.status in (401, 403):
        return _missing_permission(exc, what, bucket)
    if exc.status == 404:
        return "it does not say what is missing, as GCS does: check that endpoint_url is a GCS endpoint"
    if exc.status == 429 and what not in ("write", "remove"):
        return _FIXES_BY_REASON["rateLimitExceeded"]
    return _FIXES.get(exc.status, "check the service's status, and the URL and its options")


def _missing_permission(exc: RefusedError, what: str, bucket: str) -> str:
    if exc.status == 401 and not exc.is_anonymous:
        return f"the credentials are not valid there, or no longer: {CREDENTIALS}"
    named = (exc.permission,) if exc.permission else _PERMISSIONS.get(what, _READING)
    needed = " and ".join(f"{name}{_WHY.get((what, name), '')}" for name in named)
    if exc.is_anonymous:
        return f"the request was anonymous, and anonymous users lack {needed} on bucket {bucket!r}: {CREDENTIALS}"
    return f"grant these credentials {needed}, on bucket {bucket!r}; roles/storage.objectUser has all of it"
