"""What S3 answers, read by its error code and never by the Python type that it comes in."""

from typing import Any

from botocore.exceptions import (
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSLError,
    TokenRetrievalError,
)

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskIOException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.types import ANY, Expect

_CREDENTIALS = (
    "pass key= and secret= (and token=), name a profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
_FIXES = {
    "InvalidAccessKeyId": f"the access key is unknown there: {_CREDENTIALS}",
    "SignatureDoesNotMatch": f"the secret does not belong to the access key: {_CREDENTIALS}",
    "ExpiredToken": "the session token has run out: get new credentials",
    "InvalidToken": "the session token is not valid there: get new credentials",
    "TokenRefreshRequired": "the session token has run out: get new credentials",
    "RequestTimeTooSkewed": "this host's clock is wrong: set it",
    "RequestExpired": "this host's clock is wrong: set it",
    "PermanentRedirect": "the bucket lives in another region: name it with the option region",
    "TemporaryRedirect": "the bucket is moving: try again later, or name its region",
    "AuthorizationHeaderMalformed": "the bucket lives in another region: name it with the option region",
    "IllegalLocationConstraintException": "the bucket lives in another region: name it with the option region",
    "ConditionalRequestConflict": "another request for this object was under way: send it again",
    "OperationAborted": "another request for this object or bucket was under way: send it again",
    "KeyTooLongError": "prefix and name together may have 1024 bytes: use a shorter prefix",
    "EntityTooLarge": "one request may carry 5 GiB: store less in one value",
    "404": "it does not say what is missing, as S3 does: check that endpoint_url is an S3 endpoint",
    "SlowDown": "the service asks for fewer requests: try again later",
    "InvalidBucketName": "fix the bucket in the URL",
    "QuotaExceeded": "the bucket is full: free some space or have its quota raised",
    "XMinioStorageFull": "the server's disk is full: free some space",
}
WITHOUT_CONDITIONAL_DELETE = (
    "open the store with conditional_delete=false, and the lock of a finished task stays there, released"
)
"""What to do where only the conditional removal fails."""

_ACTIONS = {"write": "s3:PutObject", "remove": "s3:DeleteObject"}
# Where the answer has no readable body the SDK puts the status in the code's place. A bare 404 is not
# among these: S3 says what is missing, and a web server that is no S3 must not look like an empty bucket.
_BY_STATUS = {
    "301": "PermanentRedirect",
    "403": "AccessDenied",
    "409": "ConditionalRequestConflict",
    "412": "PreconditionFailed",
    "416": "InvalidRange",
    "501": "NotImplemented",
    "503": "SlowDown",
}


def error_code(exc: BaseException) -> str | None:
    """S3's error code, or None where the error is no answer of the service."""
    for error in (exc, exc.__cause__):
        response: Any = getattr(error, "response", None)
        if isinstance(response, dict) and "Error" in response:
            status = str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
            code = str(response["Error"].get("Code") or status)
            # A proxy or an imitator may use words of its own; the status then says what it is.
            if status in ("412", "501"):
                code = status
            return _BY_STATUS.get(code, code)
    return None


def failure(
    exc: Exception, what: str, url: str, bucket: str, prefix: str, expect: Expect
) -> TaskIOException | None:
    """The error of the core that ``exc`` means, or None where nothing more is known about it.

    Messages are made of codes: what the service says in its own words may repeat a credential.
    """
    code = error_code(exc)
    if code is None:
        return _without_answer(exc, what, url)
    is_refused = code == "PreconditionFailed" and expect is not ANY
    if is_refused or (code == "NoSuchKey" and isinstance(expect, str)):
        found = "another version" if is_refused else "no object"
        wanted = expect if isinstance(expect, str) else "no object"
        return VersionConflictException(
            f"{url} has another version than expected (expected {wanted}, found {found})"
        )
    if code == "NoSuchKey" and what == "read":
        return PersistenceDataNotFoundException(f"there is no object {url}")
    if code == "NoSuchBucket":
        return StorageUnavailableException(
            f"cannot {what} {url}: there is no bucket {bucket!r}. Create it, or fix the URL or its endpoint_url."
        )
    if code == "NotImplemented" and what == "remove" and expect is not ANY:
        return UnsupportedBackendException(
            f"cannot {what} {url}: the server does not remove objects conditionally ({code}): "
            f"{WITHOUT_CONDITIONAL_DELETE}."
        )
    if code == "NotImplemented" and expect is not ANY:
        return UnsupportedBackendException(
            f"cannot {what} {url}: the server does not do conditional requests ({code}). "
            "Use one that does, or no_lock=True without any protection against a second run."
        )
    fix = _FIXES.get(code, "check the service's status, and the URL and its options")
    if code == "AccessDenied":
        fix = _missing_permission(what, f"arn:aws:s3:::{bucket}", prefix)
    return StorageUnavailableException(f"cannot {what} {url}: the service answered {code}; {fix}.")


def _missing_permission(what: str, bucket: str, prefix: str) -> str:
    if what == "list":
        return f"grant these credentials s3:ListBucket on {bucket}"
    objects = f"{bucket}/{prefix}*"
    if what in _ACTIONS:
        return f"grant these credentials {_ACTIONS[what]} on {objects}"
    return (
        f"grant these credentials s3:GetObject on {objects}, and s3:ListBucket on {bucket}, without which a "
        "missing object reads as forbidden"
    )


def _without_answer(exc: Exception, what: str, url: str) -> TaskIOException | None:
    start = f"cannot {what} {url}: "
    match exc:
        case NoCredentialsError() | PartialCredentialsError() | TokenRetrievalError():
            return StorageUnavailableException(
                f"{start}no usable AWS credentials were found; {_CREDENTIALS}."
            )
        case ProfileNotFound():
            return StorageUnavailableException(
                f"{start}the AWS profile is in none of the configuration files; "
                "add it there, or name another one."
            )
        case SSLError():
            return StorageUnavailableException(
                f"{start}the endpoint's certificate is not trusted; "
                "set AWS_CA_BUNDLE to the authority's file, or fix endpoint_url."
            )
        case ParamValidationError():
            return UnsupportedBackendException(
                f"{start}the installed botocore does not know this request; upgrade s3fs and aiobotocore."
            )
        case EndpointConnectionError() | ConnectTimeoutError() | ReadTimeoutError() | HTTPClientError():
            return StorageUnavailableException(
                f"{start}the endpoint did not answer ({type(exc).__name__}); "
                "check endpoint_url, region and the network."
            )
        case _:
            return None
