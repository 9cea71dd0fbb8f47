"""What the Blob service answers, as errors of the core."""

from typing import Final

from azure.core.exceptions import ClientAuthenticationError

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskIOException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.types import ABSENT, ANY, Expect
from checkmate_io_azure._requests import RefusedError, UnansweredError

CREDENTIALS: Final = (
    "pass connection_string=, or account_name= with account_key=, sas_token= or credential=; "
    "or set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and what belongs to it; "
    "or log in with az login"
)
BLOB_NOT_FOUND: Final = "BlobNotFound"
_CONDITIONS = ("ConditionNotMet", "TargetConditionNotMet", "")
_LEASES = ("LeaseIdMissing", "LeaseLost", "LeaseIdMismatchWithBlobOperation")
_FORBIDDEN = (
    "AuthorizationPermissionMismatch",
    "AuthorizationFailure",
    "InsufficientAccountPermissions",
    "AuthorizationResourceTypeMismatch",
    "UnauthorizedBlobOverwrite",
    "",
)
_BUSY = "the service asks for fewer requests: try again later"
_FIXES = {
    "AuthorizationProtocolMismatch": "the SAS is for https only: use https",
    "AuthorizationSourceIPMismatch": "the SAS is for other addresses than this host's: get another one",
    "AuthorizationServiceMismatch": "the SAS is not for the Blob service: get another one",
    "KeyBasedAuthenticationNotPermitted": "the account takes no account key and no SAS made with it: use a token",
    "AccountIsDisabled": "the account is disabled: have it enabled",
    "NoAuthenticationInformation": f"it takes no anonymous requests: {CREDENTIALS}",
    "PublicAccessNotPermitted": f"the account takes no anonymous requests: {CREDENTIALS}",
    "ResourceNotFound": f"an anonymous request sees neither the container nor whether there is one: {CREDENTIALS}",
    "InvalidResourceName": "fix the container's name in the URL",
    "InvalidUri": "fix the container's name in the URL",
    "ContainerBeingDeleted": "the container is being deleted: make it anew when that is done, or use another",
    "ContainerDisabled": "the container is disabled: have it enabled, or use another",
    "SnapshotsPresent": "the object has snapshots, without which it cannot be removed: delete them first",
    "BlobImmutableDueToPolicy": "the container's immutability policy keeps objects from being changed: use another",
    "BlobArchived": "somebody has moved the object to the archive tier: rehydrate it",
    "InvalidBlobType": "the object is no block blob: something else has written it; remove it",
    "RequestBodyTooLarge": "one request may carry 5000 MiB: store less in one value",
    "ServerBusy": _BUSY,
    "TooManyRequests": _BUSY,
    "OperationTimedOut": _BUSY,
    **dict.fromkeys(_LEASES, "somebody holds an Azure lease on the object: break it"),
}
_FIXES_BY_STATUS = {
    404: "it does not say what is missing, as Azure does: check that the endpoint is a Blob service's",
    429: _BUSY,
    503: _BUSY,
}
_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
# The action of a role, and the permissions of a SAS.
_RIGHTS = {
    "list": (f"{_BLOBS}/read", "l (list)"),
    "write": (f"{_BLOBS}/write", "c (create) and w (write)"),
    "remove": (f"{_BLOBS}/delete", "d (delete)"),
}
_READING = (f"{_BLOBS}/read", "r (read)")


def failure(
    exc: Exception, what: str, url: str, container: str, account: str, expect: Expect
) -> TaskIOException | None:
    """The error of the core that ``exc`` means, or None where nothing more is known about it."""
    start = f"cannot {what} {url}: "
    match exc:
        case RefusedError():
            return _refused(exc, what, url, container, account, expect)
        case ClientAuthenticationError():
            return StorageUnavailableException(
                f"{start}no usable Azure credentials were found ({type(exc).__name__}); {CREDENTIALS}."
            )
        case UnansweredError(is_nameless=True):
            return StorageUnavailableException(
                f"{start}there is no host for the account {account!r}; fix account_name (or account_host), "
                "or check the network's name service."
            )
        case UnansweredError(is_untrusted=True):
            return StorageUnavailableException(
                f"{start}the endpoint's certificate is not trusted; set SSL_CERT_FILE to the authority's "
                "file, or fix the endpoint."
            )
        case UnansweredError():
            return StorageUnavailableException(
                f"{start}the endpoint did not answer; check the account's endpoint and the network."
            )
        case _:
            return None


def _refused(
    exc: RefusedError, what: str, url: str, container: str, account: str, expect: Expect
) -> TaskIOException:
    is_missing = exc.code == BLOB_NOT_FOUND
    if _is_conflict(exc, expect):
        wanted = expect if isinstance(expect, str) else "no object"
        found = "no object" if is_missing else "another version, or none"
        found = "an object" if expect is ABSENT else found
        return VersionConflictException(
            f"{url} has another version than expected (expected {wanted}, found {found})"
        )
    if is_missing and what == "read":
        return PersistenceDataNotFoundException(f"there is no object {url}")
    start = f"cannot {what} {url}: "
    if exc.code == "ContainerNotFound":
        return StorageUnavailableException(
            f"{start}there is no container {container!r} in the account {account!r}. "
            "Create it, or fix the URL or the account."
        )
    if exc.status == 501 and expect is not ANY:
        return UnsupportedBackendException(
            f"{start}the server does not do conditional requests ({exc}). "
            "Use one that does, or no_lock=True without any protection against a second run."
        )
    return StorageUnavailableException(
        f"{start}the service answered {exc}; {_fix(exc, what, container, account)}."
    )


def _is_conflict(exc: RefusedError, expect: Expect) -> bool:
    if expect is ANY:
        return False
    if exc.status == 412:
        # A lease that somebody holds is a 412 too, but says nothing of the version.
        return exc.code in _CONDITIONS
    if expect is ABSENT:
        return exc.code == "BlobAlreadyExists"
    return exc.code == BLOB_NOT_FOUND


def _fix(exc: RefusedError, what: str, container: str, account: str) -> str:
    if exc.code in ("AuthenticationFailed", "InvalidAuthenticationInfo"):
        return _invalid_credentials(exc, account)
    if exc.status in (401, 403) and exc.code in _FORBIDDEN:
        return _missing_right(exc, what, container, account)
    known = _FIXES.get(exc.code) or _FIXES_BY_STATUS.get(exc.status)
    return known or "check the service's status, and the URL and its options"


def _invalid_credentials(exc: RefusedError, account: str) -> str:
    clock = "and this host's clock"
    match exc.signed_by:
        case "the account key":
            return f"check that the account key belongs to the account {account!r}, {clock}"
        case "a SAS":
            return f"check that the SAS belongs to the account {account!r} and has not run out, {clock}"
        case _:
            return f"the credentials are not valid for the account {account!r}, or no longer: {CREDENTIALS}"


def _missing_right(exc: RefusedError, what: str, container: str, account: str) -> str:
    action, letters = _RIGHTS.get(what, _READING)
    where = f"on container {container!r}"
    rules = f"the network rules of the account {account!r}"
    otherwise = f", if {rules} let this host in" if exc.code == "AuthorizationFailure" else ""
    match exc.signed_by:
        case "a SAS":
            return f"get a SAS with the permission {letters} {where}{otherwise}"
        case "a token":
            return f"grant this identity {action} {where}, as the role Storage Blob Data Contributor does{otherwise}"
        case "nothing":
            return f"the request was anonymous, and needs {action} {where}: {CREDENTIALS}"
        case _:
            return f"an account key may do everything, so have {rules} let this host in"
