"""Artifacts: large values of a task, stored beside its states and not in them."""

from checkmate_core.artifacts.place import ArtifactPlace
from checkmate_core.artifacts.ref import INLINE_BELOW, ArtifactRef
from checkmate_core.artifacts.stored import StoredArtifacts
from checkmate_core.artifacts.task_artifacts import TaskArtifacts

__all__ = ["INLINE_BELOW", "ArtifactPlace", "ArtifactRef", "StoredArtifacts", "TaskArtifacts"]
