"""Model files from the Hugging Face hub: pinned, cached by the hub's own client, and checked
against the hub's hash.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import storage_error, write_atomic
from taggers import download
from taggers.download import sha256 as sha256

COMMIT = re.compile(r"[0-9a-f]{40}")
# The hub's ETag of a file is the sha256 of its bytes (large files) or git's own blob hash (small
# ones).
SHA256 = re.compile(r"[0-9a-f]{64}")
GIT_BLOB = re.compile(r"[0-9a-f]{40}")
# Where a file system has no links the cache cannot name its files by their ETag; then it is kept in
# this side-car.
ETAG_SUFFIX = ".etag"
_STORAGE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}
)


class FetchError(ModelFileError):
    """The file is not on this machine and the hub could not be asked for it."""


class FileNotInRepo(FetchError):
    """The hub was asked, and the repository has no such file."""


def cached(repo: str, filename: str, revision: str) -> Path | None:
    """Return the file's path in the hub's cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, filename, revision=revision)
    return Path(found) if isinstance(found, str) else None


def fetch(repo: str, filename: str, revision: str, *, again: bool = False) -> Path:
    """Return the file from the cache, downloading it first when it is missing or `again` is asked
    for.

    Raises FetchError when the hub cannot be reached or refuses, StorageError when the cache cannot
    be written. The download shows the hub's own progress bar on a terminal; a large file goes on
    where an earlier try stopped.
    """
    found = cached(repo, filename, revision)
    if found is not None and not again:
        return found
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    with _asking(repo, filename):
        # Asked first and without retries: without a connection this answers at once, the download
        # only after minutes.
        url = hf_hub_url(repo, filename, revision=revision)
        seen = get_hf_file_metadata(url)
        etag, cache = seen.etag, Path(constants.HF_HUB_CACHE)
        if etag is not None and SHA256.fullmatch(etag) and download.can_resume(cache):
            download.bring(repo, url, etag, seen.size, cache)
            again = False  # the client finds the file in its cache, and links to it
        path = Path(hf_hub_download(repo, filename, revision=revision, force_download=again))
    if etag is not None and not path.is_symlink():
        write_atomic(path.with_name(path.name + ETAG_SUFFIX), f"{etag}\n".encode())
    return path


def commit(repo: str, filename: str, revision: str) -> str:
    """Return the 40-hex commit behind a branch, tag or commit, from the cache if it knows."""
    if COMMIT.fullmatch(revision):
        return revision
    return fetch(repo, filename, revision).parents[filename.count("/")].name


def damage(path: Path) -> str:
    """Return what is wrong with a cached file's bytes, "" where they have the hash that the hub
    gave for them.
    """
    etag = _etag(path)
    try:
        if SHA256.fullmatch(etag):
            actual = sha256(path)
        elif GIT_BLOB.fullmatch(etag):
            data = path.read_bytes()
            actual = hashlib.sha1(
                b"blob %d\0" % len(data) + data, usedforsecurity=False
            ).hexdigest()
        else:
            return f"{path} cannot be trusted: the hub's hash of it is not known"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"
    return "" if actual == etag else f"{path} is damaged or incomplete: its hash is not the hub's"


def _etag(path: Path) -> str:
    """Return the ETag that the cache recorded: the name of the blob it links to, or the side-car;
    "" for neither.
    """
    if path.is_symlink():
        return path.readlink().name
    sidecar = path.with_name(path.name + ETAG_SUFFIX)
    return sidecar.read_text("utf-8").strip() if sidecar.is_file() else ""


@contextmanager
def _asking(repo: str, filename: str) -> Iterator[None]:
    """Turn what the hub's client may raise into our errors, with the reason."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    # Its HTTP library was requests, then httpx, then httpx2; the common base of its errors is a
    # base of this one.
    transport = (
        base
        for base in HfHubHTTPError.__mro__
        if base.__name__ in ("HTTPError", "RequestException")
    )
    expected: tuple[type[BaseException], ...] = (
        OSError,
        ValueError,
        RuntimeError,
        *transport,
    )  # hf_xet's: RuntimeError
    try:
        yield
    except expected as error:
        if isinstance(error, OSError) and error.errno in _STORAGE:
            raise storage_error(Path(error.filename or "the model cache"), error) from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        absent = isinstance(error, EntryNotFoundError) and not isinstance(
            error, LocalEntryNotFoundError
        )
        raise (FileNotInRepo if absent else FetchError)(
            f"{filename} of {repo} could not be fetched: {lines[0]}"
        ) from error
