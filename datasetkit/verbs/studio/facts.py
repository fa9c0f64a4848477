"""What the state of each tab follows from: facts of the project, as cheap as they can be."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from datasetkit.captions.caption import normal_form
from datasetkit.core.errors import DskError
from datasetkit.core.file_kinds import is_image_name
from datasetkit.core.files import PROJECT, caption_path, display
from datasetkit.options import toml
from datasetkit.options.train import TrainOptions
from datasetkit.project.jobs import Job
from datasetkit.project.journal import JournalEntry
from datasetkit.project.locks import is_locked
from datasetkit.verbs.history import history
from datasetkit.verbs.jobs_list import jobs as list_jobs
from datasetkit.verbs.review.dataset import ReviewDataset
from datasetkit.verbs.review.images import ReviewImage
from datasetkit.verbs.studio import concepts, config_file, grids, jobs, run_files, runs
from datasetkit.verbs.studio.concepts import StudioConcept
from datasetkit.verbs.studio.session import StudioSession, info

Json = dict[str, Any]
_MOST_IMAGES: Final = 100_000  # of a layout that are counted


def project(session: StudioSession) -> Json:
    """Return the facts of a project."""
    dataset = None
    with suppress(DskError):  # no images, or another command works in the project
        dataset = session.captions.get().dataset
    images: list[ReviewImage] = []
    raw: list[tuple[StudioConcept, Sequence[Path]]] = []
    if dataset is not None:
        with dataset.lock:
            images = dataset.all()
    else:
        raw = listed(session)
    entries = _history(session)
    mine = [job for job in list_jobs() if jobs.is_here(session, job)]
    newest = max(map(_changed, images), default=0.0)
    return {
        "name": session.folder.name,
        "root": str(session.root),
        "config": _config(session),
        "images": _listed_images(session, raw)
        if dataset is None
        else _images(session, dataset, images),
        "captions": _listed_captions(raw) if dataset is None else _captions(dataset, images),
        "check": _check(mine, newest),
        "layout": _layout(session, entries, newest),
        "train": _train(session),
        "runs": _runs(session),
        "compare": _compare(session, entries),
        "history": {
            "entries": len(entries),
            "interrupted": sum(entry.state == "open" for entry in entries),
            "undo": next((f"{e.verb}: {e.title}" for e in entries if e.state == "done"), None),
        },
        "locked": _locked(session, mine),
    }


def _history(session: StudioSession) -> list[JournalEntry]:
    if not (session.root / PROJECT).is_dir():
        return []
    with suppress(DskError):
        return history(session.root)
    return []


def _config(session: StudioSession) -> Json:
    config = config_file.read(session)
    return {key: config[key] for key in ("exists", "hash", "problem")}


def _images(session: StudioSession, dataset: ReviewDataset, images: list[ReviewImage]) -> Json:
    size = _training_side(session)
    counts = [0] * len(dataset.sets)
    for image in images:
        counts[image.concept] += 1
    return {
        "concepts": [
            {
                "name": concept.name,
                "folder": session.shown(concept.folder),
                "images": count,
                "repeats": concept.repeats or 0,
            }
            for concept, count in zip(dataset.sets, counts, strict=True)
        ],
        "total": len(images),
        "unreadable": len(dataset.failed),
        "small": sum(_side(image) < size for image in images),
        "near_duplicates": len(concepts.duplicates(session)),
        "left_out": len(dataset.left_out),
    }


def listed(session: StudioSession) -> list[tuple[StudioConcept, Sequence[Path]]]:
    """Return the concepts with their images as the tab Images lists them: also in subfolders, and
    while another command works in the project.
    """
    with suppress(DskError):
        return [
            (concept, concepts.listed_images(session, concept))
            for concept in concepts.find_concepts(session)
            if concept.kind == "train"
        ]
    return []


def session_info(session: StudioSession) -> Json:
    """Return what the page needs before anything else. Where the dataset could not be loaded, its
    images are counted as they are listed.
    """
    shell = info(session)
    if shell["captions_problem"] is None:
        return shell
    counts = _listed_captions(listed(session))
    total = counts["captioned"] + counts["missing"]
    return {**shell, "images": total, "captioned": counts["captioned"]}


def _listed_images(
    session: StudioSession, raw: Sequence[tuple[StudioConcept, Sequence[Path]]]
) -> Json:
    rows: list[Json] = [
        {
            "name": concept.name,
            "folder": session.shown(concept.folder),
            "images": len(paths),
            "repeats": concept.repeats or 0,
        }
        for concept, paths in raw
        if paths
    ]
    none = dict.fromkeys(("unreadable", "small", "near_duplicates", "left_out"), 0)
    return {"concepts": rows, "total": sum(row["images"] for row in rows), **none}


def _listed_captions(raw: Sequence[tuple[StudioConcept, Sequence[Path]]]) -> Json:
    total = sum(len(paths) for _, paths in raw)
    captioned = sum(caption_path(path).is_file() for _, paths in raw for path in paths)
    missing = total - captioned
    return {"captioned": captioned, "missing": missing, "empty": 0, "without_trigger": 0}


def _side(image: ReviewImage) -> float:
    """Return the side of a square of as many pixels."""
    record = image.facts.record
    return float((record.width * record.height) ** 0.5)


def _training_side(session: StudioSession) -> float:
    size: Any = TrainOptions().resolution
    with suppress(DskError):
        size = toml.find(session.root).table("train").get("resolution", size)
    width, height = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)
    return float((width * height) ** 0.5) if isinstance(width, int) else 0.0


def _captions(dataset: ReviewDataset, images: list[ReviewImage]) -> Json:
    captions = [image.caption for image in images]
    without = 0
    for image in images:
        words = [normal_form(word) for word in dataset.trigger_of(image).words]
        caption = image.caption
        if words and caption is not None and caption.tags:
            without += [normal_form(tag) for tag in caption.tags[: len(words)]] != words
    return {
        "captioned": sum(caption is not None for caption in captions),
        "missing": sum(caption is None for caption in captions),
        "empty": sum(caption is not None and not caption.text() for caption in captions),
        "without_trigger": without,
    }


def _changed(image: ReviewImage) -> float:
    """Return when an image or its caption changed, in seconds since 1970."""
    stamp = image.caption_stamp
    return max(image.stamp.mtime_ns, 0 if stamp is None else stamp.mtime_ns) / 1e9


def _check(mine: list[Job], newest: float) -> Json:
    last = next((job for job in mine if job.verb == "check" and job.code is not None), None)
    if last is None:
        return {"ran": None, "code": 0, "is_current": False}
    # A job's time has whole seconds.
    is_current = _seconds(last.started) + 1 >= newest
    return {"ran": last.started, "code": last.code, "is_current": is_current}


def _seconds(moment: str) -> float:
    try:
        parsed = datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return 0.0
    return parsed.replace(tzinfo=UTC).timestamp()


def _layout(session: StudioSession, entries: list[JournalEntry], newest: float) -> Json:
    written = "dataset"
    with suppress(DskError):
        written = str(toml.find(session.root).table("layout").get("out", written))
    train = session.root / written / "train"
    ran = next((e.started for e in entries if e.verb == "layout" and e.state == "done"), 0.0)
    exists = train.is_dir()
    return {
        "folder": written,
        "exists": exists,
        "is_current": exists and ran >= newest,
        "images": _count(train) if exists else 0,
    }


def _count(folder: Path) -> int:
    count = 0
    for _, _, files in os.walk(folder):
        count += sum(map(is_image_name, files))
        if count > _MOST_IMAGES:
            break
    return count


def _train(session: StudioSession) -> Json:
    try:
        options = toml.find(session.root).build(TrainOptions, "train", only_read=True)
    except DskError as error:
        return {"base": "", "problem": {"error": error.message, "hint": error.hint}}
    return {"base": options.pretrained_model_name_or_path, "problem": None}


def _runs(session: StudioSession) -> Json:
    listed = runs.all_runs(session)
    states = [run["state"] for run in listed]
    last = listed[0] if listed else None
    finished = next((run for run in listed if run["state"] == "finished"), None)
    return {
        "total": len(listed),
        "running": states.count("running") + states.count("stopping"),
        "failed": states.count("failed"),
        "lost": states.count("lost"),
        "last": None if last is None else last["id"],
        "last_state": None if last is None else last["state"],
        "current": finished is not None and not runs.differs(session, finished["id"]),
    }


def _compare(session: StudioSession, entries: list[JournalEntry]) -> Json:
    loras = 0
    for run in runs.places(session):
        record = run_files.manifest(run)
        loras += 0 if record is None else sum(file.kind == "lora" for file in record.files)
    grid_count = 0
    with suppress(DskError):
        grid_count = len(grids.overview(session)["grids"])
    kept = sum(entry.verb == "keep" and entry.state == "done" for entry in entries)
    return {"loras": loras, "grids": grid_count, "kept": kept}


def _locked(session: StudioSession, mine: list[Job]) -> Json | None:
    if not (session.root / PROJECT).is_dir() or not is_locked(session.root):
        return None
    job = next((job for job in mine if job.runs), None)
    return {
        "verb": "" if job is None else display(job.verb),
        "job": None if job is None else job.id,
    }
