"""Base models on the hub: how they are named, with a commit, and which files one consists of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasetkit import hub
from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.core.files import display

_NAME = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w./-]+\.safetensors))?(?:@(?P<commit>.*))?"
)

Files = tuple[str, ...]
_DIFFUSERS: Final = ("config.json", "diffusion_pytorch_model.safetensors")
# What a model consists of (Stable Diffusion XL has a second text encoder), and a VAE: a repository
# of its own, or a part of a model.
_PLAIN: Final = (
    *(f"{part}/{file}" for part in ("unet", "vae") for file in _DIFFUSERS),
    "text_encoder/config.json", "text_encoder/model.safetensors",
)  # fmt: skip
MODEL: Final[tuple[Files, ...]] = (
    _PLAIN,
    (*_PLAIN, "text_encoder_2/config.json", "text_encoder_2/model.safetensors"),
)
VAE: Final[tuple[Files, ...]] = (_DIFFUSERS, tuple(f"vae/{file}" for file in _DIFFUSERS))
# Fetched as well, if the repository has them.
_INDEX: Final = "model_index.json"
_MODULAR_INDEX: Final = "modular_model_index.json"
# The parts of a transformer that are not loaded.
_NOT_LOADED: Final = ("feature_extractor", "image_encoder", "safety_checker", "image_processor")
_TOKENIZER_FILES: Final = (
    "tokenizer_config.json", "tokenizer.json", "chat_template.jinja", "vocab.json", "merges.txt",
    "added_tokens.json", "special_tokens_map.json", "spiece.model",
)  # fmt: skip
_SCHEDULER: Final = "scheduler/scheduler_config.json"
_SECOND: Final = "text_encoder_2"


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository of the hub, or one file of it. commit: as it was written, "" for none."""

    repo: str
    file: str
    commit: str


def parse(text: str, commit: str = "") -> HubName | None:
    """Read `owner/name` or `owner/name/file.safetensors`, with or without `@commit`; return None
    for any other text.

    commit: used if the text has none. Without any commit, a path to a file is one on this machine.
    """
    match = _NAME.fullmatch(text)
    if match is None or match["repo"].endswith(".safetensors"):
        return None
    name = HubName(match["repo"], match["file"] or "", match["commit"] or commit)
    return None if name.file and not name.commit else name


def fetch(name: HubName, layouts: Sequence[Files]) -> Path:
    """Return the file, or the folder that holds the files of one of the layouts, fetching what the
    cache is missing.

    Raises ConfigError for a name without a whole commit: a branch may be another model tomorrow.
    Raises ModelFileError if the hub cannot be asked or has no such files, or if a file is damaged.
    """
    require_commit(name)
    if name.file:
        layouts = [(name.file,)]
    folder, files = _cached(name, layouts) or _download(name, layouts)
    for file in files:
        _check(folder / file)
    return folder / name.file


def cached(name: HubName, layouts: Sequence[Files]) -> Path | None:
    """Return the file or folder of a model in the cache; None if it is not there as a whole."""
    if not hub.COMMIT.fullmatch(name.commit):
        return None
    stored = _cached(name, [(name.file,)] if name.file else layouts)
    return stored[0] / name.file if stored is not None else None


def require_commit(name: HubName) -> None:
    """Raise ConfigError for a name without a whole commit."""
    if not hub.COMMIT.fullmatch(name.commit):
        raise ConfigError(
            f"{display(name.repo)} is not a file or folder here; a model of the hub needs its "
            "revision",
            hint='set revision = "<40 hex digits>", or write it behind an @: the commit that '
            'the hub shows under "Files and versions"',
        )


def _cached(name: HubName, layouts: Sequence[Files]) -> tuple[Path, Files] | None:
    """Return the commit's folder in the cache and the layout that it holds, None for neither."""
    for files in (
        *layouts,
        *_by_index(layouts, lambda file: hub.cached(name.repo, file, name.commit)),
    ):
        paths = [hub.cached(name.repo, file, name.commit) for file in files]
        if paths[0] is not None and None not in paths:
            folder = _folder(paths[0], files[0])
            if not _leaves_out(folder, files):
                return folder, files
    return None


def _download(name: HubName, layouts: Sequence[Files]) -> tuple[Path, Files]:
    """Fetch the first layout that the repository has; return the commit's folder and the layout.

    The small files come first, so that a repository of another layout costs no large download.
    """
    reason = ""
    for files in layouts:
        try:
            return _download_layout(name, files), files
        except hub.FileNotInRepo as error:
            reason = error.message
    for files in _by_index(layouts, lambda file: _fetched(name, file)):
        for file in files:
            folder = _folder(hub.fetch(name.repo, file, name.commit), file)
        return folder, files
    raise ModelFileError(
        reason,
        hint="a repository needs the layout of diffusers; a single file is named "
        "owner/name/file.safetensors",
    )


def _by_index(layouts: Sequence[Files], get: Callable[[str], Path | None]) -> Iterator[Files]:
    """Yield the files of a transformer in the layout of diffusers, as its index lists its parts and
    as those list their weights: there may be several files of each.

    get: returns a file of the repository, None for none.
    """
    if layouts is not MODEL:
        return
    indices = ((file, get(file)) for file in (_INDEX, _MODULAR_INDEX))
    index, path = next(((file, path) for file, path in indices if path), ("", None))
    if path is None:
        return
    parts = json.loads(path.read_text(encoding="utf-8"))
    if "transformer" not in parts:
        return
    files = [index]
    for part, kind in parts.items():
        if isinstance(kind, list) and kind and kind[0] and part not in _NOT_LOADED:
            files += _of_part(part, str(kind[0]), get)
    yield tuple(files)


def _of_part(part: str, library: str, get: Callable[[str], Path | None]) -> list[str]:
    """Return the files of a part. library: that loads it, which names them."""
    if part == "scheduler":
        return [_SCHEDULER] if get(_SCHEDULER) else []
    if "tokenizer" in part or "processor" in part:
        return [file for name in _TOKENIZER_FILES if get(file := f"{part}/{name}")]
    weights = "model" if library == "transformers" else "diffusion_pytorch_model"
    weights = f"{part}/{weights}.safetensors"
    listed = get(f"{weights}.index.json")
    if listed is None:
        return [f"{part}/config.json", weights]
    shards = json.loads(listed.read_text(encoding="utf-8"))["weight_map"].values()
    return [
        f"{part}/config.json", f"{weights}.index.json",
        *(f"{part}/{shard}" for shard in sorted(set(shards))),
    ]  # fmt: skip


def _fetched(name: HubName, file: str) -> Path | None:
    """Return a file of a repository; None if it has no such file."""
    try:
        return hub.fetch(name.repo, file, name.commit)
    except hub.FileNotInRepo:
        return None


def _download_layout(name: HubName, files: Files) -> Path:
    """Fetch the files of a layout; return the commit's folder. Raises FileNotInRepo."""
    weights = [file for file in files if file.endswith(".safetensors")]
    configs = [file for file in files if file not in weights]
    for file in configs:
        folder = _folder(hub.fetch(name.repo, file, name.commit), file)
    if configs:
        _fetch_optional(name, _INDEX)
        if _leaves_out(folder, files):
            raise hub.FileNotInRepo(f"{display(name.repo)} has a {_SECOND}")
    for file in weights:
        folder = _folder(hub.fetch(name.repo, file, name.commit), file)
    if configs:
        _fetch_optional(name, _SCHEDULER)
    return folder


def _fetch_optional(name: HubName, file: str) -> None:
    with suppress(hub.FileNotInRepo):
        hub.fetch(name.repo, file, name.commit)


def _folder(path: Path, file: str) -> Path:
    """Return the folder of the commit from the path of one of its files."""
    return path.parents[file.count("/")]


def _leaves_out(folder: Path, files: Files) -> bool:
    """Tell whether a model has a second text encoder that a layout leaves out, which has all its
    other parts.
    """
    index = folder / _INDEX
    if files != _PLAIN or not index.is_file():
        return False
    return json.loads(index.read_text(encoding="utf-8")).get(_SECOND, [None])[0] is not None


def _check(path: Path) -> None:
    """Compare a large file with its hash, which takes about a second for each gigabyte or two.

    A file whose hash the cache does not record is not checked: another program may have put it
    there, on a system without links.
    """
    if hub.SHA256.fullmatch(hub.etag(path)) and (problem := hub.damage(path)):
        raise ModelFileError(
            problem, hint=f"delete {display(path.resolve())}, and it is fetched again"
        )
