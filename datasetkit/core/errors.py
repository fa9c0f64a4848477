"""The errors that a person may see, and the exit code of each one.

    DskError
    ├── InputError       2   an argument or a file cannot be used
    ├── ConfigError      2   an option or dsk.toml is wrong
    ├── HalfDone         2   a command was interrupted here, and this one may not complete it
    ├── UnsignedEntry    2   an interrupted command of somebody else, or of another folder
    ├── PlanConflict     2   the plan would overwrite or lose something; nothing was changed
    │   └── FileChanged  2   a file has changed since the plan was made
    ├── DatasetError    10   the folder is missing, or has no images
    ├── Locked          11   another run works in this project or on this GPU
    ├── ModelFileError  12   a model is missing, damaged or does not fit
    ├── MissingExtra    12   an optional package is not installed
    ├── StorageError    13   the disk is full, read-only or denies access
    └── ClusterError    14   the cluster cannot be reached or used, or was lost

They are raised where the fact is known, and caught in two places: the executor, where the image
becomes `Failed`, and the command line's outermost function. Any other exception is a bug and shows
its traceback.
"""

from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path


class Exit(IntEnum):
    """Exit codes of `dsk`. Scripts depend on them; a test pins them."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    SOME_FAILED = 3
    DATASET = 10
    LOCKED = 11
    MODEL = 12
    STORAGE = 13
    CLUSTER = 14
    CHECK_FOUND = 20
    LORA_CHECK_FAILED = 21
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


class DskError(Exception):
    """An error with a message for people. hint: what to do next, "" if that is not known. details:
    the lines of a message that names several things.
    """

    exit_code: Exit = Exit.INTERNAL

    def __init__(self, message: str, *, hint: str = "", details: Sequence[str] = ()) -> None:
        super().__init__("\n".join((message, *details)))
        self.message = message
        self.hint = hint
        self.details = tuple(details)


class InputError(DskError):
    """An argument or a file cannot be used."""

    exit_code = Exit.USAGE


class ConfigError(DskError):
    """An option or a key of dsk.toml is wrong."""

    exit_code = Exit.USAGE


class HalfDone(DskError):
    """A command was interrupted in a project that is to be read, and this one may not write."""

    exit_code = Exit.USAGE


class UnsignedEntry(DskError):
    """The journal has an interrupted command that was not signed by this user in this folder."""

    exit_code = Exit.USAGE


class PlanConflict(DskError):
    """A plan would overwrite or lose something; the whole plan was refused."""

    exit_code = Exit.USAGE


class FileChanged(PlanConflict):
    """Files that a plan would write have changed since the plan was made: `paths`."""

    def __init__(self, message: str, paths: Sequence[Path]) -> None:
        super().__init__(message, hint="nothing was changed; run the command again")
        self.paths = tuple(paths)


class DatasetError(DskError):
    """The folder does not exist, or has no images."""

    exit_code = Exit.DATASET


class Locked(DskError):
    """Another run holds the lock of the project, or that of the GPU."""

    exit_code = Exit.LOCKED


class ModelFileError(DskError):
    """A model file is missing, damaged, or does not match its hash or its labels."""

    exit_code = Exit.MODEL


class MissingExtra(DskError):
    """An optional package is needed that is not installed."""

    exit_code = Exit.MODEL


class StorageError(DskError):
    """The disk is full, read-only or denies access."""

    exit_code = Exit.STORAGE


class ClusterError(DskError):
    """The cluster cannot be reached or used, or was lost; what was finished is kept."""

    exit_code = Exit.CLUSTER
