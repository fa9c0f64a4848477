"""`dsk publish`: a LoRA or a dataset on the Hugging Face hub; private unless it may be public."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from datasetkit import hub
from datasetkit.captions.caption import one_line
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import display, find_root
from datasetkit.core.progress import Reporter
from datasetkit.core.records import Failed, LeftOut
from datasetkit.core.words import counted
from datasetkit.dataset.exports import ImageText
from datasetkit.images import pixels
from datasetkit.options.publish import PublishOptions
from datasetkit.options.toml import folder_of
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from datasetkit.project.store import Store
from datasetkit.verbs.shared import dataset_card, lora_card, parquet_table
from datasetkit.verbs.shared.concept_folders import find_sets
from datasetkit.verbs.shared.concept_images import (
    ConceptRecord,
    image_text,
    no_usable_image,
    scan_all,
)
from datasetkit.verbs.shared.recovery import recover_dataset
from trainer.lora_files.describe import describe
from trainer.lora_files.lora_file import read

METADATA: Final = "metadata.jsonl"
_MOST_FILES: Final = 10_000  # in one folder of the hub


@dataclass(frozen=True, slots=True)
class PublishPlan:
    """What would leave this machine, and where it would go; made without a network.

    files: path in the repository -> a file here; none for a table, which holds the `images`. texts:
    path in the repository -> what dsk writes. size: bytes, before compression. discloses: what
    people can learn from the files, a line each.
    """

    repo: str
    kind: hub.RepoKind
    address: str
    options: PublishOptions
    files: Mapping[str, Path]
    texts: Mapping[str, str]
    size: int
    discloses: tuple[str, ...]
    images: tuple[ImageText, ...] = field(default=(), repr=False)
    failed: tuple[Failed, ...] = ()
    unused_files: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class PublishResult:
    """The plan, and after an upload the address of the commit ("" for a dry run).

    created: the repository is new. kept: files of the repository that were not replaced.
    """

    plan: PublishPlan
    url: str = ""
    created: bool = False
    kept: tuple[str, ...] = ()
    failed: tuple[Failed, ...] = ()
    unused_files: tuple[LeftOut, ...] = ()


def plan_publishing(
    path: Path, options: PublishOptions, context: RunContext = DEFAULT_CONTEXT
) -> PublishPlan:
    """Collect what would be uploaded of a LoRA file, or of a dataset's folder; no network is used.

    Raises ConfigError without a repository, ModelFileError for another file, DatasetError for a
    folder without images.
    """
    if not options.repo:
        raise ConfigError("no repository is given", hint="name it with --repo owner/name")
    is_lora = path.is_file() and path.suffix != ".toml"
    return _plan_lora(path, options) if is_lora else _plan_dataset(path, options, context)


def publish(plan: PublishPlan, context: RunContext = DEFAULT_CONTEXT) -> PublishResult:
    """Upload what a plan says, in one commit. Raises InputError without a login, or if the
    repository exists with the other visibility; FetchError for what the hub answers.
    """
    if context.dry_run:
        return PublishResult(plan, failed=plan.failed, unused_files=plan.unused_files)
    folder = Path(tempfile.mkdtemp(prefix="dsk-publish-"))
    try:
        uploaded = hub.upload(
            plan.repo,
            plan.kind,
            {**_contents(plan, folder, context.reporter), **_encoded(plan.texts)},
            public=plan.options.public,
            message="Upload with datasetkit",
            keep=() if plan.options.replace_card else (hub.CARD,),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return PublishResult(
        plan, uploaded.url, uploaded.created, uploaded.kept, plan.failed, plan.unused_files
    )


def _plan_lora(path: Path, options: PublishOptions) -> PublishPlan:
    lora = describe(read(path))
    samples = lora_card.samples_of(path)
    files = {path.name: path} | ({lora_card.SAMPLES: samples} if samples else {})
    texts = {
        hub.CARD: lora_card.card(lora, options, samples=samples is not None),
        f"{path.stem}.civitai.json": lora_card.civitai_json(lora, options),
    }
    size = sum(file.stat().st_size for file in files.values())
    return _plan("model", options, files, texts, size, tuple(lora_card.disclosed(lora)))


def _plan_dataset(path: Path, options: PublishOptions, context: RunContext) -> PublishPlan:
    folder = folder_of(path)
    recover_dataset(folder, context)
    sets = find_sets(folder)
    with Store.open_copy(find_root(folder)) as store:
        images, failed, left_out = scan_all(sets.train, store, context.reporter)
    if not images:
        raise no_usable_image(folder, failed)
    files = _image_paths(images)
    texts_of = [image_text(image) for image in images]
    rows = [
        {"file_name": name.removeprefix(f"{dataset_card.TRAIN}/"), "text": one_line(item.caption)}
        for name, item in zip(files, texts_of, strict=True)
    ]
    texts = {hub.CARD: dataset_card.card(images, options)}
    if options.format == "imagefolder":
        texts[f"{dataset_card.TRAIN}/{METADATA}"] = "".join(
            json.dumps(row, ensure_ascii=False) + "\n" for row in rows
        )
        if len(files) > _MOST_FILES:
            context.reporter.warn(
                f"{counted(len(files), 'file')}: the hub takes {_MOST_FILES:,} in a folder; use "
                "--format parquet"
            )
    positions = sum(pixels.has_position(record.path) for _, record in images)
    captioned = sum(not (r.caption is None or r.caption.is_empty) for _, r in images)
    discloses = [
        f"{counted(len(images), 'image')}, {counted(captioned, 'caption')}",
        f"names of the images and of their folders, such as {next(iter(files))}",
    ]
    if positions:
        discloses.append(
            f"where {counted(positions, 'image was', 'images were')} taken: EXIF data with a "
            "position; dsk resize makes copies without it"
        )
    size = sum(path.stat().st_size for path in files.values())
    shown = files if options.format == "imagefolder" else {}  # a table holds them
    return _plan(
        "dataset", options, shown, texts, size, tuple(map(display, discloses)),
        tuple(texts_of), (*failed,), (*sets.unused_files, *left_out),
    )  # fmt: skip


def _plan(
    kind: hub.RepoKind,
    options: PublishOptions,
    files: Mapping[str, Path],
    texts: Mapping[str, str],
    size: int,
    discloses: tuple[str, ...],
    images: tuple[ImageText, ...] = (),
    failed: tuple[Failed, ...] = (),
    unused_files: tuple[LeftOut, ...] = (),
) -> PublishPlan:
    size += sum(len(text.encode()) for text in texts.values())
    return PublishPlan(
        options.repo, kind, hub.address(options.repo, kind), options, files, texts, size,
        discloses, images, failed, unused_files,
    )  # fmt: skip


def _image_paths(images: Sequence[ConceptRecord]) -> dict[str, Path]:
    """Return where each image lies in the repository: train/<folder of its concept>/<image>."""
    files: dict[str, Path] = {}
    for concept, record in images:
        below = record.path.relative_to(concept.folder).as_posix()
        name = f"{dataset_card.TRAIN}/{concept.folder.name or concept.name}/{below}"
        if name in files:
            raise InputError(
                f"two concepts have a folder {display(concept.folder.name)}: their images would "
                "replace each other",
                hint="publish the folder that dsk layout makes",
            )
        files[name] = record.path
    return files


def _encoded(texts: Mapping[str, str]) -> dict[str, Path | bytes]:
    return {name: text.encode() for name, text in texts.items()}


def _contents(plan: PublishPlan, folder: Path, reporter: Reporter) -> dict[str, Path | bytes]:
    """Return the files to upload; a Parquet table is written into the temporary folder first."""
    if plan.kind == "model" or plan.options.format == "imagefolder":
        return dict(plan.files)
    reporter.phase("writing the table")
    shards = list(parquet_table.write(plan.images, folder))
    return {f"data/train-{n:05}-of-{len(shards):05}.parquet": path for n, path in enumerate(shards)}
