"""The tab Plan: repeats, steps and buckets, and what each bucket cuts off of an image."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from datasetkit.captions.caption import laid_out_text, read_caption
from datasetkit.core.errors import DskError
from datasetkit.core.files import caption_path, read_existing
from datasetkit.dataset import layout as folder_names
from datasetkit.dataset.buckets import Bucket, BucketRules, select
from datasetkit.dataset.layout import REG, TRAIN, Concept
from datasetkit.dataset.repeats import ConceptImages, ConceptPlan, balance_reg
from datasetkit.dataset.repeats import plan as repeats_plan
from datasetkit.options.dataset import LayoutOptions
from datasetkit.options.reg import RegOptions
from datasetkit.options.toml import find
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.verbs.plan_repeats import PlanRepeatsResult, plan_options, plan_repeats
from datasetkit.verbs.shared.cards import nvidia_cards
from datasetkit.verbs.shared.concept_images import train_options
from datasetkit.verbs.shared.training_plan import PlanTrainingResult
from datasetkit.verbs.studio import concepts
from datasetkit.verbs.studio.concepts import StudioConcept
from datasetkit.verbs.studio.images import ShownImage
from datasetkit.verbs.studio.session import StudioSession
from datasetkit.verbs.train import plan_training

_ENLARGES: Final = 1  # a scale above it


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image and its bucket."""

    image: ShownImage
    bucket: Bucket

    @property
    def cut(self) -> tuple[float, float, float, float]:
        """Return what is cut off at the left, top, right and bottom, as shares of the image."""
        width, height = self.bucket.resized
        left, top = self.bucket.crop[0] / width, self.bucket.crop[1] / height
        right = (width - self.bucket.bucket[0]) / width - left
        bottom = (height - self.bucket.bucket[1]) / height - top
        return left, top, max(0.0, right), max(0.0, bottom)


def plan(studio: StudioSession) -> dict[str, Any]:
    """Return what a training would use. Raises DatasetError without images, ConfigError."""
    config = find(studio.folder)
    train = train_options(config, None)
    options = plan_options(studio.folder, {})
    result = plan_repeats(studio.folder, options, context=studio.context)
    planned = planned_images(studio)
    shown = concepts.find_concepts(studio)
    out = laid_out(studio)
    training = _training(out)
    batch = result.plan.batch_settings
    reg = sum(concepts.image_count(studio, c) for c in shown if c.kind == "reg")
    samples = result.plan.train.samples
    reg_samples = reg * balance_reg(samples, reg) if reg else 0
    buckets = Counter(each.bucket.bucket for each in planned)
    areas = sum(each.image.width * each.image.height for each in planned)
    cut = sum(each.bucket.cropped * each.image.width * each.image.height for each in planned)
    return {
        "concepts": [
            *(_train_row(shown, each) for each in result.plan.concepts),
            *_reg_rows(studio, shown, samples),
        ],
        "buckets": [{"w": w, "h": h, "images": n} for (w, h), n in buckets.most_common()],
        "steps": total_steps(studio, shown, result) if training is None else training.steps,
        "epochs": batch.epochs if training is None else training.epochs,
        "batch": batch.batch_size,
        "accumulation": train.gradient_accumulation_steps,
        "cut": cut / areas if areas else 0,
        "enlarged": sum(each.bucket.scale > _ENLARGES for each in planned),
        "balance": {"train": samples, "reg": reg_samples} if reg else None,
        "memory": _memory(training),
        "current": out is not None and is_current(shown, out, result),
        "advice": list(result.advice),
        "command": "dsk layout && dsk reg" if reg else "dsk layout",
    }


def _train_row(shown: Sequence[StudioConcept], each: ConceptPlan) -> dict[str, Any]:
    declared = [concept.name for concept in shown if concept.is_declared]
    return {
        "id": declared.index(each.name) if each.name in declared else None,
        "name": each.name,
        "kind": "train",
        "images": each.images,
        "repeats": each.repeats,
        "ideal": None if each.ideal is None else max(1, round(each.ideal)),
        "samples": each.samples,
        "steps": each.alone.steps,
    }


def _reg_rows(
    studio: StudioSession, shown: Sequence[StudioConcept], samples: int
) -> list[dict[str, Any]]:
    rows = []
    for concept in shown:
        if concept.kind == "reg":
            images = concepts.image_count(studio, concept)
            repeats = balance_reg(samples, images) if images else 1
            rows.append({
                "id": None,
                "name": concept.name,
                "kind": "reg",
                "images": images,
                "repeats": repeats,
                "ideal": None,
                "samples": images * repeats,
                "steps": 0,
            })  # fmt: skip
    return rows


def total_steps(
    studio: StudioSession, shown: Sequence[StudioConcept], result: PlanRepeatsResult
) -> int:
    """Return the optimizer steps once the dataset and its regularisation set are laid out."""
    reg = [(c.name, concepts.allowed_finished(studio, c)) for c in shown if c.kind == "reg"]
    if not any(images for _, images in reg):
        return result.plan.total.steps
    repeats = {each.name: each.repeats for each in result.plan.concepts}
    train = [
        ConceptImages(c.name, _sizes(studio, concepts.allowed_finished(studio, c)),
                      repeats=repeats[c.name])
        for c in shown
        if c.kind == "train" and c.name in repeats
    ]  # fmt: skip
    samples = result.plan.train.samples
    plan = repeats_plan(
        train,
        rules=train_options(find(studio.folder), None).all_bucket_rules(),
        batch_settings=result.plan.batch_settings,
        reg=[
            ConceptImages(name, _sizes(studio, paths), repeats=balance_reg(samples, len(paths)))
            for name, paths in reg
            if paths
        ],
    )
    return plan.total.steps


def _sizes(studio: StudioSession, paths: Sequence[Path]) -> list[tuple[int, int]]:
    images = studio.images.read(paths, max_pixels=studio.options.max_pixels)
    return [(image.width, image.height) for image in images if not image.problem]


def laid_out(studio: StudioSession) -> Path | None:
    """Return the folder of the laid-out dataset, None where there is none."""
    config = find(studio.folder)
    options = config.build(LayoutOptions, "layout", only_read=True)
    out = config.locate(options.out, studio.folder)
    return out if (out / TRAIN).is_dir() and not out.is_symlink() else None


def _training(out: Path | None) -> PlanTrainingResult | None:
    """Return the plan of the training, None where it cannot be planned yet."""
    if out is not None:
        with suppress(DskError):
            return plan_training(out)
    return None


def _memory(training: PlanTrainingResult | None) -> dict[str, Any] | None:
    """Return the estimate of memory, None where it or the device is not known."""
    have = _device_memory()
    if training is None or have is None or training.memory.assumed:
        return None
    need = training.memory.bytes
    return {
        "fits": need <= have,
        "need": round(need),
        "have": have,
        "parts": [{"name": s.name, "bytes": round(s.bytes)} for s in training.memory.shares],
    }


def _device_memory() -> int | None:
    """Return the bytes of the first card, or of the machine without one."""
    if shutil.which("nvidia-smi"):
        cards = nvidia_cards()
        return cards[0].memory if cards else None
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def is_current(shown: Sequence[StudioConcept], out: Path, result: PlanRepeatsResult) -> bool:
    """Tell whether the dataset is laid out with these images, captions and repeats."""
    repeats = {each.name: each.repeats for each in result.plan.concepts}
    folders = {
        parsed.name: path
        for path in (out / TRAIN).iterdir()
        if isinstance(parsed := folder_names.parse(path.name), Concept)
        and parsed.repeats == repeats.get(parsed.name)
    }
    declared = [concept for concept in shown if concept.kind == "train"]
    return folders.keys() == {concept.name for concept in declared} and all(
        _has_same_files(concepts.finished_images(concept), folders[concept.name])
        for concept in declared
    )


def is_reg_current(studio: StudioSession, out: Path, result: PlanRepeatsResult) -> bool:
    """Tell whether the regularisation images of dsk.toml are laid out, balanced against a training
    set that is.
    """
    config = find(studio.folder)
    options = config.build(RegOptions, "reg", only_read=True)
    folder = config.locate(options.folder, studio.folder)
    images = concepts.images_in(folder)
    repeats = options.repeats or balance_reg(result.plan.train.samples, len(images))
    target = out / REG / folder_names.folder_name(Concept(repeats, options.class_name))
    if len(concepts.images_in(target)) != len(images):
        return False
    with suppress(OSError):
        return all(
            _is_same_image(image, target / image.name)
            and (options.captions == "none" or _is_newer_caption(image, target / image.name))
            for image in images
        )
    return False


def _is_same_image(image: Path, laid_out: Path) -> bool:
    """Tell whether a laid-out image is the original: links and copies have its times. Raises
    OSError.
    """
    ours, theirs = image.stat(), laid_out.stat()
    return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)


def _is_newer_caption(image: Path, laid_out: Path) -> bool:
    """Tell whether a derived caption was written after that of the original. Raises OSError."""
    caption = caption_path(image)
    if not caption.is_file():
        return True
    return caption_path(laid_out).stat().st_mtime_ns >= caption.stat().st_mtime_ns


def _has_same_files(images: Sequence[Path], laid_out: Path) -> bool:
    """Tell whether a laid-out folder has these images and their captions."""
    with suppress(OSError, DskError):
        if len(concepts.images_in(laid_out)) != len(images):
            return False
        for image in images:
            other = laid_out / image.name
            if not _is_same_image(image, other) or not _has_same_caption(image, other):
                return False
        return True
    return False


def _has_same_caption(image: Path, laid_out: Path) -> bool:
    """Tell whether the caption of a laid-out image is as it would be written now. Raises OSError,
    DskError.
    """
    ours, theirs = read_existing(caption_path(image)), read_existing(caption_path(laid_out))
    if ours == theirs or ours is None or theirs is None:
        return ours == theirs
    caption = read_caption(image, syntax_of(image.parent))
    # Several lines become one, for example.
    return caption is not None and laid_out_text(caption).encode() == theirs


# ---- images


def planned_images(studio: StudioSession) -> list[PlannedImage]:
    """Return the finished images with their buckets, those of which most is lost first."""
    rules = train_options(find(studio.folder), None).bucket_rules()
    paths = [
        path
        for concept in concepts.find_concepts(studio)
        for path in concepts.allowed_finished(studio, concept)
    ]
    images = studio.images.read(paths, max_pixels=studio.options.max_pixels)
    planned = [_planned(image, rules) for image in images if not image.problem]
    planned.sort(key=lambda each: (-each.bucket.cropped, -each.bucket.scale, each.image.id))
    return planned


def _planned(image: ShownImage, rules: BucketRules) -> PlannedImage:
    return PlannedImage(image, select(rules, image.width, image.height))


def images(studio: StudioSession, offset: int, limit: int) -> dict[str, Any]:
    """Return a window of the images as columns, with the bucket of each and what is cut off."""
    planned = planned_images(studio)
    window = planned[offset : offset + limit]
    cuts = [each.cut for each in window]
    sides = zip(*cuts, strict=True) if cuts else ((), (), (), ())
    left, top, right, bottom = (list(side) for side in sides)
    return {
        "total": len(planned),
        "id": [each.image.id for each in window],
        "v": [each.image.v for each in window],
        "name": [each.image.path.name for each in window],
        "w": [each.image.width for each in window],
        "h": [each.image.height for each in window],
        "bucket_w": [each.bucket.bucket[0] for each in window],
        "bucket_h": [each.bucket.bucket[1] for each in window],
        "left": left,
        "top": top,
        "right": right,
        "bottom": bottom,
        "scale": [each.bucket.scale for each in window],
    }
