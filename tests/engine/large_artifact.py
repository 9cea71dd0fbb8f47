"""Puts and reads a large artifact, and downloads a smaller one, in a process of its own; prints how its memory grew.

python -m tests.engine.large_artifact FOLDER BYTES
"""

import json
import resource
import sys
import time
from hashlib import sha256
from pathlib import Path

from checkmate import open_task_io

from .albums import artifacts_of

MIB = 1024 * 1024


class Generated:
    """So many bytes, no two parts of which are alike."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._block = bytearray(sha256(b"block").digest() * (MIB // 32))

    def read(self, size: int = -1, /) -> bytes:
        self._block[:8] = self._left.to_bytes(8, "big")
        chunk = bytes(self._block[: min(size, self._left)])
        self._left -= len(chunk)
        return chunk


def peak() -> int:
    """Most memory that this process had, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // MIB


def main(folder: str, size: int) -> None:
    artifacts = artifacts_of(open_task_io(f"{folder}/store"))
    before, start = peak(), time.monotonic()
    seconds: dict[str, float] = {}
    grown: dict[str, int] = {}

    def lap(what: str) -> None:
        seconds[what] = round(time.monotonic() - start - sum(seconds.values()), 1)
        grown[what] = peak() - before

    ref = artifacts.put("large", Generated(size))
    lap("put")
    with artifacts.open(ref) as file:
        read = sum(len(chunk) for chunk in iter(lambda: file.read(MIB), b""))
    lap("open")
    # A disk may not hold the whole three times.
    smaller = artifacts.put("smaller", Generated(size // 8))
    path = artifacts.download(smaller, Path(folder) / "downloaded")
    lap("download")
    print(
        json.dumps(
            {
                "size": ref.size,
                "read": read,
                "downloaded": path.stat().st_size,
                "grown_mib": grown,
                "seconds": seconds,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
