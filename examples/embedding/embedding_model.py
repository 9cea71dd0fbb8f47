"""The model: 256 numbers for a text, from weights that are in the wheel of `wordllama`. Needs no network."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

Vectors = NDArray[numpy.float32]

DIMENSIONS = 256


def model_name() -> str:
    """What made the vectors; those of two models cannot be compared."""
    return f"wordllama {version('wordllama')} l2_supercat_{DIMENSIONS}"


@cache
def load_model() -> Callable[[list[str]], Vectors]:
    """The model as a function from texts to vectors of length 1."""
    import wordllama

    # Without cache_dir it looks for its own tokenizer in a folder that the wheel does not have.
    folder = Path(str(wordllama.__file__)).parent
    model: Any = wordllama.WordLlama.load(cache_dir=folder, dim=DIMENSIONS, disable_download=True)

    def embed(texts: list[str]) -> Vectors:
        vectors: Vectors = model.embed(texts)
        lengths = numpy.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Vectors = vectors / numpy.maximum(lengths, 1e-9)
        return unit

    return embed
