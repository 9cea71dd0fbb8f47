"""Backends that are wrong in one way each, and the group of cases that has to find it."""

from . import answering, listing, naming, preconditions, racing
from .sound import PLANTED, SoundIO, World, subject_of

__all__ = [
    "PLANTED",
    "SoundIO",
    "World",
    "answering",
    "listing",
    "naming",
    "preconditions",
    "racing",
    "subject_of",
]
