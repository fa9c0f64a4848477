"""Every error that a person may meet, and the exit code that each one gives.

    DskError
    ├── InputError       2   an argument or a file cannot be used
    ├── ConfigError      2   an option or dsk.toml is wrong
    ├── PlanConflict     2   the plan would overwrite or lose something; nothing was changed
    │   └── Outdated     2   a file is no longer what it was when the plan was made
    ├── DatasetError    10   the folder is missing, or holds no images
    ├── Locked          11   another run works in this project
    ├── ModelFileError  12   a model is missing, damaged or does not fit
    ├── MissingExtra    12   an optional package is not installed
    └── StorageError    13   the disk is full, read-only or denies access

Raised where the fact is known, caught in two places: the executor's guard (one image becomes
`Failed`) and the command line's error edge. Anything else is a bug and shows its traceback.
"""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `dsk`; scripts depend on them, a test freezes them."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    SOME_FAILED = 3
    DATASET = 10
    LOCKED = 11
    MODEL = 12
    STORAGE = 13
    CHECK_FOUND = 20
    GATE_FAILED = 21
    INTERRUPTED = 130
    TERMINATED = 143


class DskError(Exception):
    """An error with a message for people and, where one is known, the next step as a hint."""

    exit_code: Exit = Exit.INTERNAL

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(DskError):
    """An argument or a file cannot be used."""

    exit_code = Exit.USAGE


class ConfigError(DskError):
    """An option or a key of dsk.toml is wrong."""

    exit_code = Exit.USAGE


class PlanConflict(DskError):
    """A plan would overwrite or lose something; it was refused as a whole."""

    exit_code = Exit.USAGE


class FileChanged(PlanConflict):
    """A file that a plan would write is no longer what it was when the plan was made."""


class DatasetError(DskError):
    """The folder does not exist, or holds no images."""

    exit_code = Exit.DATASET


class Locked(DskError):
    """Another run holds this project's lock."""

    exit_code = Exit.LOCKED


class ModelFileError(DskError):
    """A model file is missing, damaged, of another hash, or does not fit its labels."""

    exit_code = Exit.MODEL


class MissingExtra(DskError):
    """An optional package is needed and not installed."""

    exit_code = Exit.MODEL


class StorageError(DskError):
    """The disk is full, read-only or denies access."""

    exit_code = Exit.STORAGE
