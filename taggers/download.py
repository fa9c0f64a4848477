"""Large files into the hub's cache, going on where an earlier download stopped: the hub's client
begins anew.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from datasetkit.core.errors import ModelFileError

PART_SUFFIX = ".dsk-part"


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def can_resume(cache: Path) -> bool:
    """Tell whether the cache names its files by their hashes; without links it holds copies, which
    the client makes.
    """
    from huggingface_hub.file_download import are_symlinks_supported

    return bool(are_symlinks_supported(cache))


def bring(repo: str, url: str, digest: str, size: int | None, cache: Path) -> None:
    """Download a file of this sha256 to where the hub's client looks for it, from where an earlier
    try stopped.

    Draws the client's own progress bar on a terminal. Raises what the client raises, and
    ModelFileError for bytes that have another hash.
    """
    from huggingface_hub.file_download import http_get, repo_folder_name
    from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

    folder = repo_folder_name(repo_id=repo, repo_type="model")
    blob, lock = cache / folder / "blobs" / digest, cache / ".locks" / folder / f"{digest}.lock"
    part = blob.with_name(digest + PART_SUFFIX)
    for place in (blob.parent, lock.parent):
        place.mkdir(parents=True, exist_ok=True)
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
        if sha256(part) != digest:
            part.unlink()
            raise ModelFileError(
                f"{url} arrived damaged: its sha256 is not the hub's", hint="run the command again"
            )
        part.replace(blob)
