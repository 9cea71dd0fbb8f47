"""Artifacts from one task to another, by the refs that states hold."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import ValidationError

from checkmate_core.artifacts.place import PARALLEL, ArtifactPlace
from checkmate_core.artifacts.ref import ArtifactRef


def find_refs(value: Any) -> Iterator[ArtifactRef]:
    """Every ref to an artifact within a state in JSON terms, however deep."""
    if isinstance(value, dict):
        if ArtifactRef.model_fields.keys() - {"inline"} <= value.keys():
            try:
                yield ArtifactRef.model_validate(value)
            except ValidationError:
                # Somebody's own data that looks like one.
                pass
            else:
                return
        for each in value.values():
            yield from find_refs(each)
    elif isinstance(value, list):
        for each in value:
            yield from find_refs(each)


def carry_artifact(ref: ArtifactRef, source: ArtifactPlace, target: ArtifactPlace) -> None:
    """Copy what a ref refers to, verified by its digests; what is there already is not sent again.

    Raises:
        CorruptObjectException: What is stored is not what was put.
        PersistenceDataNotFoundException: It is not there.
        TaskIOException: The store failed.
    """
    what = f"artifact {ref.name!r} of task {source.task_id}"
    if ref.kept == "object":
        target.put(ref.sha256, source.get(ref.sha256, ref.size, what), look=True)
    elif ref.kept == "parts":
        index = source.get_index(ref.sha256, ref.size, what)

        def carry(part: int) -> None:
            sha256 = index.parts[part]
            target.put(sha256, source.get(sha256, index.size_of(part), what), look=True)

        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="checkmate carries") as pool:
            list(pool.map(carry, range(len(index.parts))))
        # Last, so that an artifact that can be found is whole.
        target.put_index(index)
