"""The engine of CheckMate. Applications import from `checkmate`, backends from here."""

from checkmate_core.artifacts import ArtifactRef
from checkmate_core.changing.changes import StageChanges
from checkmate_core.changing.dry_run import BindOutcome, BindPreview
from checkmate_core.checkmate import CheckMate
from checkmate_core.copying import CopyReport, copy_tasks
from checkmate_core.engine import CheckMateEngine
from checkmate_core.errors import (
    BindException,
    CorruptObjectException,
    IncompatibleTaskException,
    InterruptedStageException,
    InvalidStateException,
    InvalidTransitionException,
    LockLostException,
    MissingStateException,
    PersistenceDataNotFoundException,
    SealedObjectException,
    StageFailedException,
    StageTimeoutException,
    StorageUnavailableException,
    TaskCanceledException,
    TaskEngineException,
    TaskIOException,
    TaskRolledBackException,
    TaskSuspendedException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.events import Observer, StageEvent
from checkmate_core.io.protocol import TaskIO
from checkmate_core.io.registry import open_task_io
from checkmate_core.layout import LOCK_EXTENSION, STAGE_NAME_MAX_LENGTH
from checkmate_core.lock import BindLock
from checkmate_core.manifest import TaskEngineState
from checkmate_core.notes import Progress, Suspension
from checkmate_core.retry import RetryPolicy
from checkmate_core.stage import BaseStage
from checkmate_core.state import BaseStageState, StageStateHistoryEntry
from checkmate_core.status import ACTIVE_STATES, CANCELABLE_STATES, INACTIVE_STATES, StageStatus
from checkmate_core.store import TaskStore
from checkmate_core.suspend import Suspend
from checkmate_core.task_copy import CopiedTask, CopyOutcome
from checkmate_core.version import __version__
from checkmate_core.views import StageView, TaskView

__all__ = [
    "ACTIVE_STATES",
    "CANCELABLE_STATES",
    "INACTIVE_STATES",
    "LOCK_EXTENSION",
    "STAGE_NAME_MAX_LENGTH",
    "ArtifactRef",
    "BaseStage",
    "BaseStageState",
    "BindException",
    "BindLock",
    "BindOutcome",
    "BindPreview",
    "CheckMate",
    "CheckMateEngine",
    "CopiedTask",
    "CopyOutcome",
    "CopyReport",
    "CorruptObjectException",
    "IncompatibleTaskException",
    "InterruptedStageException",
    "InvalidStateException",
    "InvalidTransitionException",
    "LockLostException",
    "MissingStateException",
    "Observer",
    "PersistenceDataNotFoundException",
    "Progress",
    "RetryPolicy",
    "SealedObjectException",
    "StageChanges",
    "StageEvent",
    "StageFailedException",
    "StageStateHistoryEntry",
    "StageStatus",
    "StageTimeoutException",
    "StageView",
    "StorageUnavailableException",
    "Suspend",
    "Suspension",
    "TaskCanceledException",
    "TaskEngineException",
    "TaskEngineState",
    "TaskIO",
    "TaskIOException",
    "TaskRolledBackException",
    "TaskStore",
    "TaskSuspendedException",
    "TaskView",
    "UnsupportedBackendException",
    "VersionConflictException",
    "__version__",
    "copy_tasks",
    "open_task_io",
]
