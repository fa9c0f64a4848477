"""`dsk keep`: copy a LoRA where web interfaces look for it, with a preview and its trigger."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from datasetkit import __version__
from datasetkit.core.errors import ConfigError, InputError, StorageError
from datasetkit.core.files import (
    PROJECT,
    display,
    file_sha256,
    read_existing,
    read_regular,
    reading,
)
from datasetkit.dataset.naming import name_fault
from datasetkit.images import pixels
from datasetkit.images.parameters import TEXT_KEY, parameters
from datasetkit.options.keep import KeepOptions
from datasetkit.project.plans import Copy, FileOp, Move, Plan, WriteBytes, WriteText
from datasetkit.project.session import DEFAULT_CONTEXT, Project, RunContext, open_project
from datasetkit.verbs.shared import lora_card
from datasetkit.verbs.shared.paths import AnyPath
from datasetkit.verbs.shared.web_interfaces import Program, lora_folder
from trainer.files.run_manifest import PREVIEWS
from trainer.lora_files import describe, lora_file
from trainer.lora_files.describe import LoraDescription

VERB: Final = "keep"
_SUFFIX: Final = ".safetensors"
_PREVIEW_SIDE: Final = 1024  # pixels
_LARGEST_JSON: Final = 4 * 2**20  # bytes
_MOST_NAMES: Final = 999
_NUMBER: Final = re.compile(r"-(?P<stem>\d{6,}|step\d{8,}|best)$")
# A1111's names of the families that its `sd version` knows.
_VERSIONS: Final = {
    "Stable Diffusion 1": "SD1", "Stable Diffusion 2": "SD2", "Stable Diffusion XL": "SDXL",
    "Stable Diffusion 3.5": "SD3",
}  # fmt: skip
_UNKNOWN: Final = "Unknown"
# What A1111 writes into a field that nobody has filled.
_EMPTY: Final = ("", 0, None, _UNKNOWN)

KeptState = Literal["copied", "replaced", "present"]


@dataclass(frozen=True, slots=True)
class KeepResult:
    """Where a LoRA was copied to, or would be.

    state: "present" if the same bytes were there. preview, json: those that were written or were
    there, None for none. program: whose folder it is, "" where that is not known. prompt: to paste
    in A1111. notes: what another program will do otherwise than expected.
    """

    source: Path
    file: Path
    state: KeptState
    preview: Path | None
    json: Path | None
    program: Program
    family: str
    weight: float
    trigger: tuple[str, ...]
    prompt: str
    sha256: str
    notes: tuple[str, ...]
    changed: tuple[Path, ...]
    entry: int | None


@dataclass(frozen=True, slots=True)
class KeepPackage:
    """What a copy has in a folder, for a download. preview: a PNG, None without one; json: A1111's
    keys.
    """

    name: str
    source: Path
    preview: bytes | None
    json: bytes


def keep(file: AnyPath, options: KeepOptions, context: RunContext = DEFAULT_CONTEXT) -> KeepResult:
    """Copy a LoRA, byte for byte, to a folder of LoRAs, with a preview and A1111's JSON beside it.

    Raises ConfigError without a folder, InputError for a preview that cannot be read,
    ModelFileError for a file that is not a LoRA, StorageError if the disk does not hold the copy.
    """
    source = Path(file)
    lora = describe.describe(lora_file.read(source))
    request = _Request(source, lora, file_sha256(source), options)
    with open_project(source.parent, context) as project:
        planned = _plan(request, project)
        changed = project.changed(planned.plan)
        entry = project.apply(
            planned.plan, VERB, planned.title(request), edited=(planned.preview, planned.json)
        )
    if not context.dry_run:
        _verify(planned.file, request.sha256)
    return KeepResult(
        source=source,
        file=planned.file,
        state=planned.state,
        preview=planned.preview if planned.has_preview else None,
        json=planned.json if planned.has_json else None,
        program=planned.program,
        family=lora.family,
        weight=options.weight,
        trigger=request.trigger,
        prompt=_prompt(planned.file.stem, options.weight, request.trigger),
        sha256=request.sha256,
        notes=tuple(planned.notes),
        changed=changed,
        entry=entry,
    )


def package(file: AnyPath, options: KeepOptions) -> KeepPackage:
    """Return what `keep` would write to an empty folder, and write nothing.

    Raises ConfigError for a name, InputError for a preview that cannot be read, ModelFileError for
    a file that is not a LoRA.
    """
    source = Path(file)
    lora = describe.describe(lora_file.read(source))
    request = _Request(source, lora, file_sha256(source), options)
    name = options.name or _valid_name(request.run)
    image = _chosen_image(request)
    return KeepPackage(
        name=name,
        source=source,
        preview=None if image is None else _png(image, request, name),
        json=_json_text(_facts(request)).encode(),
    )


@dataclass(frozen=True, slots=True)
class _Request:
    """A LoRA that is to be kept."""

    source: Path
    lora: LoraDescription
    sha256: str
    options: KeepOptions

    @property
    def run(self) -> str:
        """Return the name of the run: that of the file without epoch or step."""
        return _NUMBER.sub("", self.source.stem)

    @property
    def trigger(self) -> tuple[str, ...]:
        return self.options.trigger or lora_card.triggers(self.lora)


@dataclass(slots=True)
class _KeepPlan:
    """The files of a copy. has_preview, has_json: they will be there. notes: for the person."""

    file: Path
    state: KeptState
    program: Program
    plan: Plan
    has_preview: bool = False
    has_json: bool = False
    notes: tuple[str, ...] = ()

    @property
    def preview(self) -> Path:
        return self.file.with_name(f"{self.file.stem}.preview.png")

    @property
    def json(self) -> Path:
        return self.file.with_suffix(".json")

    def title(self, request: _Request) -> str:
        """Return what the history says, which the compare page reads as well."""
        weight = f", weight {request.options.weight:g}" if request.options.weight else ""
        return f"{display(request.source.name)} as {display(self.file.stem)}{weight}"


def _plan(request: _Request, project: Project) -> _KeepPlan:
    options = request.options
    if not options.to:
        raise ConfigError(
            "no folder was given for the copy",
            hint="--to DIR: the folder of LoRAs of your web interface, or its own folder",
        )
    folder = lora_folder(Path(options.to).expanduser())
    if folder.path.exists() and not folder.path.is_dir():
        raise InputError(
            f"{display(folder.path)} is not a folder", hint="give another one with --to"
        )
    name = options.name or _valid_name(request.run)
    target, state = _target(folder.path, name, request)
    plan = _KeepPlan(target, state, folder.program, Plan())
    ops: list[FileOp] = []
    notes: list[str] = []
    if state == "replaced":
        trash = project.root / PROJECT / "trash" / f"keep-{project.journal.next_id()}"
        ops.append(Move(target, trash / target.name))
    if state != "present":
        ops.append(Copy(request.source.resolve(), target))
    written = _written_before(project, target.parent)
    ops += _preview(request, plan, written, notes)
    ops += _json(request, plan, written, notes)
    if target.stem != name:
        notes.append(
            f"another {display(name)}{_SUFFIX} is there, so this one is called "
            f"{display(target.stem)}; --replace puts it in its place"
        )
    plan.plan, plan.notes = Plan(tuple(ops)), tuple(notes)
    return plan


def _valid_name(name: str) -> str:
    """Return the name of a run if a copy can have it. Raises ConfigError."""
    fault = name_fault(name)
    if fault is not None:
        raise ConfigError(
            f"the name `{display(name)}` {fault}", hint="give another one with --name"
        )
    return name


def _target(folder: Path, name: str, request: _Request) -> tuple[Path, KeptState]:
    """Return where the copy goes: the first name that is free or has the same bytes, or that of
    the file to replace.
    """
    for number in range(1, _MOST_NAMES + 1):
        stem = name if number == 1 else f"{name}-{number}"
        path = folder / f"{stem}{_SUFFIX}"
        if not os.path.lexists(path):
            return path, "copied"
        if path.is_file() and _has_bytes(path, request):
            return path, "present"
        if request.options.replace:
            if path.is_symlink() or not path.is_file():
                raise InputError(
                    f"{display(path)} is not a regular file", hint="give another --name"
                )
            return path, "replaced"
    raise InputError(
        f"{display(folder)} has {_MOST_NAMES} files of this name", hint="give a --name"
    )


def _has_bytes(path: Path, request: _Request) -> bool:
    with reading(path):
        return path.stat().st_size == request.lora.size and file_sha256(path) == request.sha256


def _verify(copy: Path, sha256: str) -> None:
    with reading(copy):
        same = file_sha256(copy) == sha256
    if not same:
        raise StorageError(
            f"{display(copy)} does not hold what was written to it",
            hint="dsk undo takes the copy back; check the disk",
        )


def _written_before(project: Project, folder: Path) -> Mapping[Path, bytes]:
    """Return what this command wrote last to the files of a folder."""
    written = project.journal.written_below(folder, {VERB})
    return {project.root / os.fsdecode(key): data for key, data in written.items()}


# ---- the preview


def _preview(
    request: _Request, plan: _KeepPlan, written: Mapping[Path, bytes], notes: list[str]
) -> list[FileOp]:
    """Return the operation that writes the preview: none where a person's own is there."""
    other = plan.file.with_suffix(".png")
    if os.path.lexists(other):
        notes.append(f"{display(other.name)} is there, and web interfaces show it as the preview")
    path = plan.preview
    over = read_existing(path)
    plan.has_preview = over is not None
    image = _chosen_image(request)
    if image is None:
        return []
    data = _png(image, request, plan.file.stem)
    is_ours = over is None or over in (data, written.get(path.absolute()))
    if not is_ours and not request.options.replace:
        notes.append(f"{display(path.name)} is kept as it is; --replace writes it again")
        return []
    plan.has_preview = True
    return [WriteBytes(path, data, over)]


def _chosen_image(request: _Request) -> Path | None:
    """Return the preview that was named, or the first preview image of the LoRA's epoch."""
    if request.options.preview:
        return Path(request.options.preview)
    number = _NUMBER.search(request.source.stem)
    if number is None:
        return None
    folder = request.source.parent / PREVIEWS
    image = folder / f"{request.run}-{number['stem']}-00.png"
    is_own = image.is_file() and not image.is_symlink() and not folder.is_symlink()
    return image if is_own else None


def _png(path: Path, request: _Request, stem: str) -> bytes:
    """Return the preview as a PNG with the parameters that it was made with, which call the LoRA by
    its new name. Raises InputError.
    """
    image = pixels.load(path, alpha="keep", shrink_to=_PREVIEW_SIDE)
    if max(image.size) > _PREVIEW_SIDE:
        image.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    text = pixels.png_text(path).get(TEXT_KEY) or _parameters_of_run(path, request)
    renamed = _renamed(text, display(request.source.stem), stem)
    return pixels.encode(image, "PNG", text={TEXT_KEY: renamed} if renamed else None)


def _renamed(text: str, old: str, new: str) -> str:
    """Return generation parameters in which a LoRA has its new name."""
    if old == new:
        return text
    text = text.replace(f"<lora:{old}:", f"<lora:{new}:")
    return re.sub(rf'(?<=[ "]){re.escape(old)}(?=: [0-9a-f]{{10,}})', lambda _: new, text)


def _parameters_of_run(path: Path, request: _Request) -> str:
    """Return the parameters of a preview image from the record of its run, "" without one."""
    with suppress(InputError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        record = path.with_name(f"{request.run}.jsonl")
        lines = (read_regular(record, limit=_LARGEST_JSON) or b"").decode().splitlines()
        rows = [f for line in lines if (f := json.loads(line))["file"] == path.name]
        if not rows:
            return ""
        facts = rows[-1]
        metadata = request.lora.metadata
        return parameters(
            f"{facts['text']} <lora:{display(request.source.stem)}:1>",
            str(facts.get("negative", "")),
            steps=int(facts["steps"]), sampler=str(facts["sampler"]),
            cfg=float(facts["guidance"]), seed=int(facts["seed"]),
            size=(int(facts["width"]), int(facts["height"])),
            model=metadata.get("ss_sd_model_name", ""),
            model_hash=metadata.get("ss_new_sd_model_hash", ""),
            clip_skip=_whole(metadata.get("ss_clip_skip", ""), 1),
            lora_hashes=f"{display(request.source.stem)}: {request.lora.model_hash[:12]}",
            program=f"datasetkit {__version__}",
        )  # fmt: skip
    return ""


def _whole(text: str, default: int) -> int:
    return int(text) if re.fullmatch(r"[1-9]|1[0-2]", text) else default


# ---- the JSON of A1111


def _json(
    request: _Request, plan: _KeepPlan, written: Mapping[Path, bytes], notes: list[str]
) -> list[FileOp]:
    """Return the operation that writes the JSON. The keys of a person stay as they are."""
    path = plan.json
    over = read_existing(path)
    plan.has_json = True
    before = {} if over is None else _object(over)
    if before is None:
        notes.append(f"{display(path.name)} is not a JSON object, and is kept as it is")
        return []
    ours = _object(written.get(path.absolute(), b"{}")) or {}
    facts = _facts(request)
    filled = {
        key: value
        for key, value in facts.items()
        if before.get(key) in _EMPTY or (key in ours and before[key] == ours[key])
    }
    merged = {**before, **filled}
    if over is not None and merged == before:
        return []
    return [WriteText(path, _json_text(merged), over)]


def _json_text(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=4, ensure_ascii=False) + "\n"


def _object(data: bytes) -> dict[str, Any] | None:
    """Return the object in a JSON file, None for anything else."""
    with suppress(ValueError, RecursionError):
        document = json.loads(data.decode("utf-8-sig"))
        if isinstance(document, dict):
            return document
    return None


def _facts(request: _Request) -> dict[str, Any]:
    """Return A1111's keys."""
    lora = request.lora
    training = lora.training
    about = [f"run {request.run}"]
    about += [f"{key} {training[key]}" for key in ("epoch", "steps") if key in training]
    about += [f"base {training['base model']}"] if "base model" in training else []
    about += [f"sha256 {request.sha256}"]
    return {
        "description": f"{display(request.source.stem)}, trained with datasetkit {__version__}"
        if "ss_network_module" in lora.metadata
        else display(request.source.stem),
        "sd version": _VERSIONS.get(lora.family, _UNKNOWN),
        "activation text": ", ".join(request.trigger),
        "preferred weight": request.options.weight,
        "negative text": "",
        "notes": display("; ".join(about)),
    }


def _prompt(stem: str, weight: float, trigger: Sequence[str]) -> str:
    return f"<lora:{stem}:{weight or 1:g}> {', '.join(trigger)}".rstrip()
