"""The options of a store, and what gcsfs is told of them."""

import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from google.auth.credentials import Credentials
from google.oauth2.credentials import Credentials as AccessToken

from checkmate_core.errors import UnsupportedBackendException
from checkmate_io_gcs._errors import CREDENTIALS

_GOOGLE: Final = ".googleapis.com"
_ANONYMOUS: Final = "anon"
# What gcsfs takes for the name of a way to find credentials; any other text is a file or an access token.
_METHODS: Final = frozenset({_ANONYMOUS, "cache", "cloud", "google_default"})
_GONE: Final = frozenset({"browser"})


def for_gcsfs(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `gcsfs.core.GCSFileSystem`. Those of a store's options that are None are not given."""
    options = {name: value for name, value in given.items() if value is not None}
    project = options.pop("project", None)
    if options.get("requester_pays") is True and project:
        options["requester_pays"] = project
    token = options.get("token")
    if token is None:
        if not is_googles(options.get("endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST")):
            options["token"] = _ANONYMOUS
    elif project:
        # Without a token gcsfs takes a project other than the credentials' for no credentials at all.
        options["project"] = project
    if isinstance(token, str) and token not in _METHODS and not os.path.exists(token):
        # gcsfs would first show it to another service, in a URL, and tell that URL in its errors.
        options["token"] = AccessToken(token)  # type: ignore[no-untyped-call]
    return options


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what could only fail later, and obscurely. No value is printed: it may be a secret."""
    kinds: dict[str, tuple[type, ...]] = {
        "token": (str, dict, Credentials),
        "requester_pays": (bool, str),
        "session_kwargs": (dict,),
    }
    for name, value in options.items():
        allowed = kinds.get(name, (str,))
        if value is not None and not isinstance(value, allowed):
            wanted = " or ".join(kind.__name__ for kind in allowed)
            raise UnsupportedBackendException(
                f"the GCS option {name!r} must be of type {wanted}, not {type(value).__name__}"
            )
    _check_token(options.get("token"))
    endpoint = options.get("endpoint_url")
    if endpoint is not None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise UnsupportedBackendException(
                "the GCS option 'endpoint_url' must be http://HOST or https://HOST, with a port where needed"
            )
        if "@" in parts.netloc or parts.query:
            raise UnsupportedBackendException(
                "the GCS option 'endpoint_url' carries credentials or a query: pass credentials as the option "
                "token, or through the environment"
            )


def _check_token(token: object) -> None:
    if not isinstance(token, str) or token in _METHODS or os.path.exists(token):
        return
    if token in _GONE:
        raise UnsupportedBackendException(
            f"the GCS option 'token' cannot be {token!r}, which gcsfs no longer takes: {CREDENTIALS}"
        )
    if not token or token.endswith(".json") or token.startswith((".", "~", os.sep)):
        raise UnsupportedBackendException("the GCS option 'token' names a file that is not there")


def is_googles(endpoint: str | None) -> bool:
    """Whether requests to ``endpoint``, as gcsfs is told it, go to Google's own service."""
    if endpoint in (None, "", "default"):  # gcsfs's own ways to say so
        return True
    host = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}").hostname or ""
    universe = os.environ.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN")
    return host.endswith(_GOOGLE) or (universe is not None and host == f"storage.{universe}")
