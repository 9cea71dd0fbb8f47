"""The folder that a base on a file system keeps for itself, and the names that it therefore refuses."""

from checkmate_core.errors import TaskIOException
from checkmate_core.io.names import check_object_name

PRIVATE_FOLDER = ".checkmate"
"""Where a base keeps its lock and temporary files. No object name may hold such a segment."""


def check_name(obj_name: str) -> str:
    """Return ``obj_name`` if it is safe and leads into nobody's private folder.

    Raises:
        TaskIOException: It is not.
    """
    check_object_name(obj_name)
    # In any segment: a base may lie below another. In any case: not all file systems tell case apart.
    if PRIVATE_FOLDER in obj_name.casefold().split("/"):
        raise TaskIOException(
            f"object name {obj_name!r} is refused: {PRIVATE_FOLDER}/ is CheckMate's own folder"
        )
    return obj_name


def is_addressable(obj_name: str) -> bool:
    """Whether `check_name` lets it pass: a folder may hold files that are no objects of ours."""
    try:
        check_name(obj_name)
    except TaskIOException:
        return False
    return True
