"""Models of the hub: named with their commit, kept in the hub's own cache, and checked against the
hub's hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.core.files import display

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w./-]+\.safetensors))?(?:@(?P<commit>.*))?"
)

Files = tuple[str, ...]
_DIFFUSERS: Final = ("config.json", "diffusion_pytorch_model.safetensors")
# What a model consists of (Stable Diffusion XL has a second text encoder), and a VAE: by itself, or
# as a part of one.
_PLAIN: Final = (
    *(f"{part}/{file}" for part in ("unet", "vae") for file in _DIFFUSERS),
    "text_encoder/config.json", "text_encoder/model.safetensors",
)  # fmt: skip
MODEL: Final[tuple[Files, ...]] = (
    _PLAIN,
    (*_PLAIN, "text_encoder_2/config.json", "text_encoder_2/model.safetensors"),
)
VAE: Final[tuple[Files, ...]] = (_DIFFUSERS, tuple(f"vae/{file}" for file in _DIFFUSERS))
# Fetched where they are there.
_INDEX, _SECOND = "model_index.json", "text_encoder_2"
_MORE: Final = (_INDEX, "scheduler/scheduler_config.json")


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository of the hub, or one file of it. commit: 40 hex digits, or what else was written,
    or nothing.
    """

    repo: str
    file: str
    commit: str


def parse(text: str, commit: str = "") -> HubName | None:
    """Read `owner/name` or `owner/name/file.safetensors`, with `@commit` behind it; None for what
    is no such name.

    commit: what counts where none is written. Without any, a path to a file is one on this machine.
    """
    match = _NAME.fullmatch(text)
    if match is None or match["repo"].endswith(".safetensors"):
        return None
    name = HubName(match["repo"], match["file"] or "", match["commit"] or commit)
    return None if name.file and not name.commit else name


def fetch(name: HubName, layouts: Sequence[Files]) -> Path:
    """Return the file, or the folder that holds the files of one of the layouts; from the cache, if
    they are there.

    Raises ConfigError for a name without a whole commit: a branch may be another model tomorrow.
    Raises ModelFileError where the hub cannot be asked or has no such files, and for a file that is
    not what the hub has.
    """
    if not _COMMIT.fullmatch(name.commit):
        raise ConfigError(
            f"{display(name.repo)} is no file or folder here; a model of the hub needs its "
            "revision",
            hint='set revision = "<40 hex digits>", or write it behind an @: the commit that '
            "the hub shows under "
            '"Files and versions"',
        )
    wanted = [(name.file,)] if name.file else layouts
    folder = _cached(name, wanted) or _downloaded(name, wanted)
    for file in _whole(folder, wanted):
        _check(folder / file)
    return folder / name.file


def _whole(folder: Path, layouts: Sequence[Files]) -> Files:
    """Return the layout whose files are all there, () for none."""
    whole = (files for files in layouts if all((folder / file).is_file() for file in files))
    return next((files for files in whole if not _leaves_out(folder, files)), ())


def _leaves_out(folder: Path, files: Files) -> bool:
    """Tell whether a model has a second text encoder that these files, which are its other parts,
    leave out.
    """
    index = folder / _INDEX
    if files != _PLAIN or not index.is_file():
        return False
    return json.loads(index.read_text(encoding="utf-8")).get(_SECOND, [None])[0] is not None


def _cached(name: HubName, layouts: Sequence[Files]) -> Path | None:
    """Return the folder of the commit in the cache, None where it lacks a file of every layout."""
    from huggingface_hub import try_to_load_from_cache

    for files in layouts:
        found = [try_to_load_from_cache(name.repo, file, revision=name.commit) for file in files]
        if all(isinstance(path, str) for path in found):
            folder = Path(str(found[0])).parents[files[0].count("/")]
            if not _leaves_out(folder, files):
                return folder
    return None


def _downloaded(name: HubName, layouts: Sequence[Files]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    # Its HTTP library was requests, then httpx; the common base of that one's errors is a base of
    # this one.
    transport = (
        base
        for base in HfHubHTTPError.__mro__
        if base.__name__ in ("HTTPError", "RequestException")
    )
    expected: tuple[type[BaseException], ...] = (OSError, ValueError, RuntimeError, *transport)
    wanted = [*(file for files in layouts for file in files), *_MORE]
    try:
        folder = Path(snapshot_download(name.repo, revision=name.commit, allow_patterns=wanted))
    except expected as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelFileError(
            f"cannot fetch {display(name.repo)} at {name.commit}: {said}",
            hint="check the name, the revision and the network",
        ) from error
    if not _whole(folder, layouts):
        missing = next(
            (file for file in layouts[0] if not (folder / file).is_file()), layouts[-1][-1]
        )
        raise ModelFileError(
            f"cannot fetch {missing} of {display(name.repo)} at {name.commit}",
            hint="check the network, and that the hub has it: diffusers' layout, or "
            "owner/name/file.safetensors",
        )
    return folder


def _check(path: Path) -> None:
    """Compare a large file with its hash, by which the cache names it; where the system has no
    links there is none.

    That takes about a second for each gigabyte or two.
    """
    blob = path.resolve()
    if path.is_symlink() and _SHA256.fullmatch(blob.name):
        with blob.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != blob.name:
            raise ModelFileError(
                f"{display(path.name)} is damaged: its hash is not the hub's",
                hint=f"delete {display(blob)}, and it is fetched again",
            )
