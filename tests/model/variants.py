"""What is explored: how much may happen, and which part of the design is left out."""

from dataclasses import dataclass, replace
from enum import Enum


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much may happen. Nothing else is bounded: every order of whatever remains is explored.

    Attributes:
        clients: How many work on the task.
        stages: Of the task.
        acquisitions: How often each client may take the lock; each makes another owner of it.
        late: How many requests, in all, may lose their reply, come late, or be dropped.
        renewals: Of each acquisition.
        lives: How often the task may be begun; a second life needs a clean.
        errors: Whether a stage may fail.
        cancels: Whether a task may be canceled.
        cleans: Whether a task may be removed.
        rollbacks: Whether a task may be rolled back.
        migrations: Whether the code of a process may have another last stage than the stored task.
        unlocks: How often an operator releases a held lock.
        kills: Whether a client may be killed and start again. (One that is paused for ever needs no
            leave.)
        interruptions: Whether an owner may give up at any point, as one whose lease ran out by its
            own clock does.
        can_remove: Whether the store can remove conditionally.
        torn_reads: Whether the objects that a bind reads at once may be read one after another, in
            any order. (The other way is at one moment.)
    """

    clients: int = 2
    stages: int = 2
    acquisitions: int = 1
    late: int = 0
    renewals: int = 0
    lives: int = 1
    errors: bool = False
    cancels: bool = False
    cleans: bool = False
    rollbacks: bool = False
    migrations: bool = False
    unlocks: int = 0
    kills: bool = False
    interruptions: bool = True
    can_remove: bool = True
    torn_reads: bool = True

    @property
    def objects(self) -> int:
        """How many stage objects there can be."""
        return self.stages + self.migrations


class Flaw(Enum):
    """One departure from the design."""

    NO_CLAIM = "a stage found RUNNING is executed without a write that stamps it first"
    CLAIM_WITHOUT_EPOCH_CHECK = "a claim that meets a conflict goes over whatever stands there"
    GET_THEN_DELETE_RELEASE = "a release looks whose lock it is, then deletes it"
    TOKEN_READ_THEN_PUT = "a stage write compares the epoch that it reads, then writes unconditionally"
    UNCONDITIONAL_PUT = "a stage write has no precondition"
    MANIFEST_SUMMARISES_ERROR = "the manifest is written when a stage failed"
    UNFENCED_CLEAN = "a clean deletes the objects, without REMOVING and without a tombstone"
    NO_BASE_EPOCH = "every life of a task has the same base_epoch"
    RENEW_WITHOUT_OWN_CHECK = "a renewal that meets a conflict takes the version that it finds for its own"
    RELEASE_WITHOUT_OWN_CHECK = "a release that meets a conflict tries again whoever's lock it finds"
    GUESS_OWN_ON_CONFLICT = "a conflict after a lost reply is taken for one's own success, without a look"
    AMBIGUOUS_COMPLETE_FAILS = (
        "a COMPLETE without a reply counts as a failed attempt, stored over what is there"
    )
    ACQUIRE_WITHOUT_ABANDON = "an acquire that is given up leaves its slot as it is"
    SWEEP_LISTS_AFTER_BURIAL = "a clean lists what to remove only once the tombstone stands"
    FAILED_BIND_REMOVES_LOCK = (
        "a bind that fails, having read a tombstone, removes the lock as that of a finished task"
    )
    LOCK_FORGETS_EPOCH = "an owner whose epoch stands in no manifest removes the lock of a finished task"
    CANCELED_END_IS_LEFT = "whoever finds a task canceled does not note its end for a canceler that died"
    CANCELED_IS_CLAIMED_TO_REMOVE = "the clean of a canceled task claims the canceled stage"
    ROLLBACK_CLAIMS_FIRST_UNFINISHED = (
        "in a rollback, an owner claims the first stage that is not complete, not the last that is"
    )
    ROLLBACK_UNCLAIMED = "a stage is rolled back without ROLLING_BACK stored first"
    MIGRATION_WITHOUT_MARK = "a migration swaps the manifest without a claim"
    PLAN_NOT_STAMPED = "a stage does not say which list of stages its owner goes by"
    MIGRATION_UNSETTLED = "whoever meets the mark of a migration claims without a swap of the manifest"


@dataclass(frozen=True, slots=True)
class Variant:
    """A flaw, and bounds within which it must be found."""

    flaw: Flaw
    bounds: Bounds


_ONE_STAGE = Bounds(stages=1)
_ROLLBACK = Bounds(rollbacks=True)
_MIGRATION = Bounds(migrations=True)
_RE_USE = replace(_ONE_STAGE, cleans=True, lives=2)

VARIANTS = {
    "no-claim": Variant(Flaw.NO_CLAIM, _ONE_STAGE),
    "claim-without-epoch-check": Variant(Flaw.CLAIM_WITHOUT_EPOCH_CHECK, _ONE_STAGE),
    "get-then-delete-release": Variant(Flaw.GET_THEN_DELETE_RELEASE, _ONE_STAGE),
    "token-read-then-put": Variant(Flaw.TOKEN_READ_THEN_PUT, _ONE_STAGE),
    "unconditional-put": Variant(Flaw.UNCONDITIONAL_PUT, _ONE_STAGE),
    "manifest-summarises-error": Variant(Flaw.MANIFEST_SUMMARISES_ERROR, replace(_ONE_STAGE, errors=True)),
    "unfenced-clean": Variant(Flaw.UNFENCED_CLEAN, _RE_USE),
    "re-use-without-base-epoch": Variant(Flaw.NO_BASE_EPOCH, _RE_USE),
    "renew-without-own-check": Variant(Flaw.RENEW_WITHOUT_OWN_CHECK, replace(_ONE_STAGE, renewals=2)),
    "release-without-own-check": Variant(Flaw.RELEASE_WITHOUT_OWN_CHECK, _ONE_STAGE),
    "guess-own-on-conflict": Variant(Flaw.GUESS_OWN_ON_CONFLICT, replace(_ONE_STAGE, late=1)),
    "ambiguous-complete-fails": Variant(Flaw.AMBIGUOUS_COMPLETE_FAILS, replace(_ONE_STAGE, late=1)),
    "acquire-without-abandon": Variant(Flaw.ACQUIRE_WITHOUT_ABANDON, replace(_ONE_STAGE, late=1)),
    "sweep-lists-after-burial": Variant(Flaw.SWEEP_LISTS_AFTER_BURIAL, _RE_USE),
    "failed-bind-removes-lock": Variant(Flaw.FAILED_BIND_REMOVES_LOCK, replace(_RE_USE, late=1)),
    "lock-forgets-epoch": Variant(Flaw.LOCK_FORGETS_EPOCH, replace(_RE_USE, acquisitions=2)),
    "canceled-is-claimed-to-remove": Variant(
        Flaw.CANCELED_IS_CLAIMED_TO_REMOVE, replace(_ONE_STAGE, cancels=True, cleans=True)
    ),
    "rollback-claims-first-unfinished": Variant(Flaw.ROLLBACK_CLAIMS_FIRST_UNFINISHED, _ROLLBACK),
    "rollback-unclaimed": Variant(Flaw.ROLLBACK_UNCLAIMED, _ROLLBACK),
    "migration-without-mark": Variant(Flaw.MIGRATION_WITHOUT_MARK, replace(_MIGRATION, stages=1)),
    "plan-not-stamped": Variant(Flaw.PLAN_NOT_STAMPED, _MIGRATION),
    "migration-unsettled": Variant(Flaw.MIGRATION_UNSETTLED, replace(_MIGRATION, stages=1)),
}
