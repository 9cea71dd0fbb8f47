"""An example of a CheckMate backend by a third party: tasks in one SQLite file."""

from checkmate_io_sqlite_example.sqlite import SqliteTaskIO

__all__ = ["SqliteTaskIO"]
