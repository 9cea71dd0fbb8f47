"""The one tree of errors.

    TaskEngineException
    ├── BindException                          the task could not be bound (usually: locked)
    │   └── LockLostException                  another owner has the task now; this one must stop
    ├── MissingStateException                  a stage lacks an input; never retried
    ├── InvalidStateException                  a state that cannot be stored as JSON; never retried
    ├── InvalidTransitionException             a status change that the state machine refuses
    ├── InterruptedStageException              a stage was in flight when its process died
    ├── StageFailedException                   a stage failed for good; ``__cause__`` is its error
    ├── StageTimeoutException                  an attempt took longer than its stage allows
    ├── TaskCanceledException                  the task was canceled
    ├── TaskRolledBackException                the task was rolled back
    ├── TaskSuspendedException                 the task waits for a time or an event; nothing is wrong
    ├── IncompatibleTaskException              the stored task is not the one that this code describes
    └── TaskIOException                        the store
        ├── PersistenceDataNotFoundException   no such object, no such task
        ├── VersionConflictException           a conditional write found another version
        ├── CorruptObjectException             an object that cannot be read as what it should be
        │   └── SealedObjectException          sealed with none of the keys given, or not sealed though it must be
        ├── UnsupportedBackendException        no backend for the URL, or one that cannot do what is asked
        └── StorageUnavailableException        unreachable, refused or overloaded

A message says what happened, to which task and object, and what to do next. No message carries
a credential or a URL's query.
"""


class TaskEngineException(Exception):
    """Base of every error that CheckMate raises on purpose."""


class BindException(TaskEngineException):
    """The task could not be bound: usually somebody else holds its lock."""


class LockLostException(BindException):
    """The lock, or the right to write a stage, has passed to another owner.

    Nothing that this owner sends is applied any more. Do not retry in this process: bind again.
    """


class MissingStateException(TaskEngineException):
    """A stage found a required state attribute unset. A retry cannot help, so none is made."""


class InvalidStateException(TaskEngineException):
    """The state cannot be stored as JSON. A retry cannot help, so none is made."""


class InvalidTransitionException(TaskEngineException):
    """A status change that the state machine does not allow."""


class InterruptedStageException(TaskEngineException):
    """A stage was in flight when its process died, and nobody said that it may run again."""


class StageFailedException(TaskEngineException):
    """A stage failed and its retries are used up; ``__cause__`` is the stage's own exception."""


class TaskCanceledException(TaskEngineException):
    """The task was canceled and cannot be executed any more."""


class StageTimeoutException(TaskEngineException):
    """An attempt took longer than the stage's ``timeout``. A failure like any other: it may be retried."""


class TaskRolledBackException(TaskEngineException):
    """The task was rolled back and cannot be executed any more."""


class TaskSuspendedException(TaskEngineException):
    """The task waits for a time or an event, so it has no result yet. Run it again once that has come."""


class IncompatibleTaskException(TaskEngineException):
    """The stored task does not fit the stages of this process, or a newer release wrote it."""


class TaskIOException(TaskEngineException):
    """Base of everything that concerns the store."""


class PersistenceDataNotFoundException(TaskIOException):
    """The object, or the task, does not exist."""


class VersionConflictException(TaskIOException):
    """A precondition failed: the object exists, is gone, or has another version."""


class CorruptObjectException(TaskIOException):
    """An object is there but cannot be read as what it should be."""


class SealedObjectException(CorruptObjectException):
    """An object is sealed and none of the keys given opens it, or is not sealed where a key is given.

    The object itself may be sound: nothing may be written over it, as may be over a damaged one.
    """


class UnsupportedBackendException(TaskIOException):
    """No backend serves the URL, or the backend cannot do what is asked of it."""


class StorageUnavailableException(TaskIOException):
    """The store could not be reached, refused the request, or stayed overloaded.

    After a write it is not known whether the write was applied.
    """
