"""The one client of the Hugging Face hub: files at a pinned revision, kept in the hub's own cache,
downloaded with resume and checked against the hash that the hub records.

Taggers and base models are fetched here, LoRAs and datasets are uploaded. `huggingface_hub` is
imported inside of functions, because it takes 0.3 s and most commands need no model.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from datasetkit.core.errors import ConfigError, InputError, ModelFileError
from datasetkit.core.files import display, file_sha256, patiently, storage_error, write_atomic

RepoKind = Literal["model", "dataset"]
CARD: Final = "README.md"
COMMIT = re.compile(r"[0-9a-f]{40}")
# The hub's ETag of a file: the sha256 of its bytes for a large file, git's blob hash for a small
# one.
SHA256 = re.compile(r"[0-9a-f]{64}")
GIT_BLOB = re.compile(r"[0-9a-f]{40}")
# On a file system without links the cache cannot name its files by their ETag; this file beside it
# holds it.
ETAG_SUFFIX = ".etag"
PART_SUFFIX = ".dsk-part"
_STORAGE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}
)


class FetchError(ModelFileError):
    """The file is not on this machine, and it could not be downloaded."""


class FileNotInRepo(FetchError):
    """The hub answered that the repository has no such file."""


def cached(repo: str, filename: str, revision: str) -> Path | None:
    """Return the file's path in the hub's cache, or None."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(repo, filename, revision=revision)
    except HFValidationError as error:
        raise ConfigError(
            f"{display(repo)} is not a name that the hub can have",
            hint="write owner/name as the hub's page shows it",
        ) from error
    return Path(path) if isinstance(path, str) else None


def fetch(repo: str, filename: str, revision: str, *, again: bool = False) -> Path:
    """Return the file from the cache; download it if it is missing, or if `again` is set.

    A large file resumes where an interrupted download stopped. The download draws the hub's own
    progress bar on a terminal. Raises FetchError if the hub cannot be reached or refuses,
    ModelFileError if the bytes arrive damaged, StorageError if the cache cannot be written.
    """
    path = cached(repo, filename, revision)
    if path is not None and not again:
        return path
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    with _translated(repo, filename, revision):
        # Asked first, without retries: offline this fails at once, the download after minutes.
        url = hf_hub_url(repo, filename, revision=revision)
        metadata = get_hf_file_metadata(url)
        recorded, cache = metadata.etag, Path(constants.HF_HUB_CACHE)
        if recorded is not None and SHA256.fullmatch(recorded) and _names_by_hash(cache):
            _download(repo, url, recorded, metadata.size, cache)
            again = False  # the client finds the file in its cache, and links to it
        path = Path(hf_hub_download(repo, filename, revision=revision, force_download=again))
    if recorded is not None and not path.is_symlink():
        write_atomic(path.with_name(path.name + ETAG_SUFFIX), f"{recorded}\n".encode())
    return path


def commit(repo: str, filename: str, revision: str) -> str:
    """Return the 40-hex commit of a branch, tag or commit, from the cache if it is recorded there.

    filename: a small file of the repository, which is fetched to learn the commit.
    """
    if COMMIT.fullmatch(revision):
        return revision
    return fetch(repo, filename, revision).parents[filename.count("/")].name


def damage(path: Path) -> str:
    """Return what is wrong with a cached file, "" if its bytes have the hash the hub recorded."""
    recorded = etag(path)
    try:
        if SHA256.fullmatch(recorded):
            actual = file_sha256(path)
        elif GIT_BLOB.fullmatch(recorded):
            data = path.read_bytes()
            actual = hashlib.sha1(
                b"blob %d\0" % len(data) + data, usedforsecurity=False
            ).hexdigest()
        else:
            return f"{display(path)} cannot be verified: the cache has no hash of it"
    except OSError as error:
        return f"{display(path)} cannot be read: {error.strerror or error}"
    if actual == recorded:
        return ""
    return f"{display(path)} is damaged or incomplete: its hash differs from the hub's"


def etag(path: Path) -> str:
    """Return the ETag recorded for a cached file, "" if there is none.

    It is the name of the blob that the file links to, or the content of the `.etag` file beside it.
    """
    if path.is_symlink():
        return path.readlink().name
    beside = path.with_name(path.name + ETAG_SUFFIX)
    return beside.read_text("utf-8").strip() if beside.is_file() else ""


def _names_by_hash(cache: Path) -> bool:
    """Tell whether the cache names its files by their hashes: without links it holds copies, which
    the client must make.
    """
    from huggingface_hub.file_download import are_symlinks_supported

    return bool(are_symlinks_supported(cache))


def _download(repo: str, url: str, sha256: str, size: int | None, cache: Path) -> None:
    """Download a file to where the hub's client looks for it, resuming an interrupted download.

    The client itself starts an interrupted download from the beginning (huggingface_hub 2.4).
    """
    from huggingface_hub.file_download import http_get, repo_folder_name
    from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

    folder = repo_folder_name(repo_id=repo, repo_type="model")
    blob = cache / folder / "blobs" / sha256
    part = blob.with_name(sha256 + PART_SUFFIX)
    lock = cache / ".locks" / folder / f"{sha256}.lock"
    blob.parent.mkdir(parents=True, exist_ok=True)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if size is not None and part.is_file() and part.stat().st_size > size:
            part.unlink()
        with part.open("ab") as file:
            http_get(
                url,
                file,
                resume_size=file.tell(),
                headers=build_hf_headers(),
                expected_size=size,
                displayed_filename=url.rsplit("/", 1)[-1],
            )
        if file_sha256(part) != sha256:
            part.unlink()
            raise ModelFileError(
                f"{url} arrived damaged: its sha256 differs from the hub's",
                hint="run the command again",
            )
        patiently(Path.replace, part, blob)


@contextmanager
def _translated(repo: str, filename: str, revision: str) -> Iterator[None]:
    """Turn the errors of the hub's client into FetchError or StorageError, with the reason."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        yield
    except _client_errors() as error:
        if isinstance(error, OSError) and error.errno in _STORAGE:
            raise storage_error(Path(error.filename or "the model cache"), error) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        is_absent = isinstance(error, EntryNotFoundError) and not isinstance(
            error, LocalEntryNotFoundError
        )
        raise (FileNotInRepo if is_absent else FetchError)(
            f"cannot fetch {filename} of {display(repo)} at {revision}: {reason}",
            hint="check the name, the revision and the network",
        ) from error


def _client_errors() -> tuple[type[Any], ...]:
    """Return the base classes of what the hub's client raises.

    Its HTTP library was requests, then httpx, then httpx2: the common base of that library's errors
    is found among the bases of the client's own error. hf_xet raises RuntimeError.
    """
    from huggingface_hub.errors import HfHubHTTPError

    transport = (
        base
        for base in HfHubHTTPError.__mro__
        if base.__name__ in ("HTTPError", "RequestException")
    )
    return (OSError, ValueError, RuntimeError, *transport)


@dataclass(frozen=True, slots=True)
class UploadResult:
    """What the hub has after an upload. url: of the commit. kept: files that were there, and were
    not replaced.
    """

    url: str
    created: bool
    kept: tuple[str, ...] = ()


def address(repo: str, kind: RepoKind) -> str:
    """Return the page of a repository on the hub that is in use (`HF_ENDPOINT`)."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repo}"


def upload(
    repo: str,
    kind: RepoKind,
    files: Mapping[str, Path | bytes],
    *,
    public: bool,
    message: str,
    keep: Collection[str] = (),
) -> UploadResult:
    """Upload files in one commit, with the login of the hub's own client (`hf auth login`).

    files: path in the repository -> a file or its bytes. keep: those that are not replaced where
    the repository has them. Raises InputError without a login, and if the repository exists with
    the other visibility; FetchError for what the hub answers.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import RepositoryNotFoundError

    if get_token() is None:
        raise InputError(
            "there is no login for the hub", hint="run hf auth login, or set HF_TOKEN to a token"
        )
    api = HfApi()
    with _uploading(repo):
        try:
            existing = api.repo_info(repo, repo_type=kind)
        except RepositoryNotFoundError:
            existing = None
            api.create_repo(repo, repo_type=kind, private=not public)
        if existing is not None:
            _require_visibility(repo, public=public, is_private=bool(existing.private))
        there = {file.rfilename for file in getattr(existing, "siblings", None) or ()}
        kept = tuple(path for path in files if path in keep and path in there)
        commit = api.create_commit(
            repo,
            [
                CommitOperationAdd(path, str(data) if isinstance(data, Path) else data)
                for path, data in files.items()
                if path not in kept
            ],
            commit_message=message,
            repo_type=kind,
        )
    return UploadResult(str(commit.commit_url), existing is None, kept)


def _require_visibility(repo: str, *, public: bool, is_private: bool) -> None:
    """Raise InputError if a repository is public and must not be, or the other way round."""
    if public and is_private:
        raise InputError(
            f"{display(repo)} exists and is private",
            hint="leave out --public, or make it public on its page of the hub first",
        )
    if not public and not is_private:
        raise InputError(
            f"{display(repo)} exists and is public: everybody would see the files",
            hint="add --public if they may, or give another --repo",
        )


@contextmanager
def _uploading(repo: str) -> Iterator[None]:
    """Turn the errors of the hub's client into FetchError, with the reason."""
    try:
        yield
    except _client_errors() as error:
        # The client wraps what a large file met in an error that names only the file.
        cause = error.__cause__ if isinstance(error, RuntimeError) else None
        reason = " ".join(
            (str(each).strip() or type(each).__name__).splitlines()[0]
            for each in (error, cause)
            if each is not None
        )
        raise FetchError(
            f"cannot upload to {display(repo)}: {reason}",
            hint="check the name, the network, and that the login may write there; nothing of this "
            "upload is on the hub",
        ) from error
