"""What stands at a path."""

import os
import stat


def is_object(path: str) -> bool:
    """Whether a file is there; a folder is no object."""
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def load(path: str) -> tuple[bytes, float] | None:
    """The whole file and when it was written, or None where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    try:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            return None
        chunks = [os.read(fd, status.st_size + 1)]
        while chunks[-1]:
            chunks.append(os.read(fd, 1 << 20))
    finally:
        os.close(fd)
    # Joining copies even where all but one are empty; a part of an artifact is large.
    data = chunks[0] if len(chunks) <= 2 else b"".join(chunks)
    return data, status.st_mtime
