"""Clients are closed in the process that made them, and nowhere else."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from s3fs import S3FileSystem


def close_in_same_process() -> Callable[[Any, Any], None]:
    """What s3fs is to call in place of its own ``close_session`` when a filesystem ends.

    A forked child inherits the registration. There it would wait for an event loop that does not
    run, and touch sockets that are the parent's.
    """
    return partial(_close, os.getpid())


def _close(pid: int, loop: Any, client: Any) -> None:
    if os.getpid() == pid:
        S3FileSystem.close_session(loop, client)
