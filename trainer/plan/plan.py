"""The plan of a run, made before anything is loaded: images, buckets, samples per epoch, and steps.

Uses the same arithmetic as `dsk plan-repeats`, and needs no torch.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from datasetkit.captions.caption import parse
from datasetkit.captions.typography import is_read_otherwise
from datasetkit.core import file_kinds
from datasetkit.core.errors import DatasetError
from datasetkit.core.files import (
    MASKS,
    display,
)
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.ranges import one_of
from datasetkit.core.records import CaptionSyntax, Failed, LeftOut
from datasetkit.core.words import counted
from datasetkit.dataset import layout, unreached, validation_split
from datasetkit.dataset.buckets import Bucket, Size, select
from datasetkit.dataset.layout import REG
from datasetkit.dataset.repeats import (
    BatchSettings,
    BlockSamples,
    DatasetBlock,
    Totals,
    reg_samples,
)
from datasetkit.images.listing import holds_images as has_images
from datasetkit.images.listing import list_images
from datasetkit.images.listing import subfolders as list_subfolders
from datasetkit.options.train import TrainOptions
from datasetkit.project.caption_syntax import syntax_of
from trainer.data.captions import CaptionSettings
from trainer.data.interpolation import require_opencv
from trainer.networks.parameter_groups import possible_rates
from trainer.optimizers.lr_schedules import SCHEDULES
from trainer.optimizers.optimizer_names import check_rates, literal_args
from trainer.plan.read_images import Captioned, ImageReader, ReadFolder, Recorder


@dataclass(frozen=True, slots=True)
class Subset:
    """One folder of images, in one block. name: the caption of images without one. is_reg: its loss
    has prior_loss_weight.

    color: colour augmentation. preserved: the target is the base model's prediction
    (diff_output_preservation). interpolation: resize_interpolation, None for Lanczos.
    """

    folder: Path
    name: str
    repeats: int
    captions: CaptionSettings
    block: DatasetBlock
    is_reg: bool = False
    flip: bool = False
    random_crop: bool = False
    color: bool = False
    preserved: bool = False
    interpolation: str | None = None


@dataclass(frozen=True, slots=True)
class TrainImage:
    """One image to train at one resolution. id: hash of its bytes; size: after EXIF rotation; mask:
    its mask file, if any.

    caption: as trained; captioned: whether it is from a caption file.
    """

    path: Path
    id: str
    size: Size
    caption: str
    bucket: Bucket
    subset: Subset
    mask: Path | None = None
    captioned: Captioned = "written"


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The plan of a run. samples: of each image per epoch, 0 for an unused regularisation image.

    totals: of an epoch, and the optimizer steps of max_train_epochs; steps: of the run, from
    max_train_steps if given; epochs: including a partial last one. notices: warnings for the user.
    held_out: images to validate instead of training on them, in validation order. left_out: other
    files of the folders.
    """

    images: tuple[TrainImage, ...]
    samples: tuple[int, ...]
    batch_settings: BatchSettings
    totals: Totals
    steps: int
    failed: tuple[Failed, ...] = ()
    notices: tuple[str, ...] = ()
    held_out: tuple[TrainImage, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Tell whether the content of every image is known, as a run needs it."""
        return all(image.id for image in self.images)

    @property
    def epochs(self) -> int:
        return -(-self.steps // self.totals.steps_per_epoch)

    @property
    def subsets(self) -> tuple[Subset, ...]:
        return _distinct(image.subset for image in self.images)

    def by_subset(self) -> dict[Subset, list[int]]:
        """Return the indices of the images of each subset."""
        numbers: dict[int, list[int]] = {}
        for number, image in enumerate(self.images):
            numbers.setdefault(id(image.subset), []).append(number)
        grouped: dict[Subset, list[int]] = {}
        for of_subset in numbers.values():
            grouped.setdefault(self.images[of_subset[0]].subset, []).extend(of_subset)
        return grouped

    @property
    def blocks(self) -> tuple[DatasetBlock, ...]:
        """Return the blocks in the order of their numbers; one without images is left out."""
        return _blocks(self.images)

    def count(self, *, is_reg: bool) -> int:
        """Return the samples per epoch of the training or the regularisation images."""
        return sum(
            n for p, n in zip(self.images, self.samples, strict=True) if p.subset.is_reg == is_reg
        )

    @property
    def image_count(self) -> int:
        """Return the number of images, each counted once however many blocks train it."""
        return len({p.path for p in self.images})


def mean_ar_error(images: Sequence[TrainImage]) -> float:
    """Return the mean difference between the aspect ratios of bucket and image."""
    errors = [abs(p.bucket.bucket[0] / p.bucket.bucket[1] - p.size[0] / p.size[1]) for p in images]
    return sum(errors) / len(errors)


def _blocks(images: Sequence[TrainImage]) -> tuple[DatasetBlock, ...]:
    subsets = _distinct(image.subset for image in images)
    return tuple(sorted({subset.block for subset in subsets}, key=lambda block: block.number))


def _distinct(subsets: Iterable[Subset]) -> tuple[Subset, ...]:
    """Return different subsets in order. Images share them: few have to be hashed."""
    return tuple(dict.fromkeys({id(subset): subset for subset in subsets}.values()))


def block_name(block: DatasetBlock) -> str:
    """Return what messages call a block, such as `block 2 (768x768)`."""
    width, height = block.rules.resolution
    return f"block {block.number + 1} ({width}x{height})"


def captions_in(folder: Path, options: TrainOptions) -> CaptionSettings:
    """Return the caption options of a run for the captions of a folder, of the kind that its
    dsk.toml says.
    """
    syntax = syntax_of(folder)
    return replace(caption_options(options), kind=syntax.kind, leading=syntax.leading)


def caption_options(options: TrainOptions) -> CaptionSettings:
    """Return the caption options of a run."""
    return CaptionSettings(
        caption_dropout_rate=options.caption_dropout_rate,
        caption_dropout_every_n_epochs=options.caption_dropout_every_n_epochs,
        keep_tokens=options.keep_tokens or 0,
        keep_tokens_separator=options.keep_tokens_separator,
        shuffle_caption=options.shuffle_caption,
        caption_tag_dropout_rate=options.caption_tag_dropout_rate,
        caption_prefix=options.caption_prefix,
        caption_suffix=options.caption_suffix,
        enable_wildcard=options.enable_wildcard,
        secondary_separator=options.secondary_separator,
        token_warmup_min=options.token_warmup_min,
        token_warmup_step=options.token_warmup_step,
    )


def find_subsets(
    folder: Path, options: TrainOptions, *, as_trainers_read: bool = False
) -> tuple[tuple[Subset, ...], tuple[str, ...]]:
    """Find the concept folders of a laid-out dataset, in `train/` and `reg/` or directly in it, and
    train each at every resolution of the options.

    as_trainers_read: also those whose names only other trainers read, for a file of theirs. Return
    them by resolution, training first, and notices about other folders. Raises DatasetError.
    """
    if not folder.is_dir():
        raise DatasetError(
            f"{display(folder)} does not exist",
            hint="give the dataset's folder; dsk layout creates it",
        )
    root, reg = layout.dataset_roots(folder)
    read_otherwise: list[str] = []
    trees = [
        (_tree(path, read_otherwise if as_trainers_read else None), is_reg)
        for path, is_reg in ((root, False), (reg, True))
        if not is_reg or path.is_dir()
    ]
    _require_folder(reg)
    _require_reg_concepts(reg, trees)
    empty: list[str] = []
    concepts = [
        (concept, is_reg)
        for tree, is_reg in trees
        for concept in tree.concepts
        if _has_images(concept.path, empty)
    ]
    subsets = _subsets(concepts, options)
    if all(subset.is_reg for subset in subsets):
        raise DatasetError(
            f"{display(folder)} has no <repeats>_<concept> folders with images",
            hint="; ".join([*empty, _where_images_belong(folder, root)]),
        )
    misread = (notice for tree, is_reg in trees for notice in _misread(tree, is_reg))
    beside = [*unreached.beside_roots(folder, (root, reg)), *unreached.beside_concepts(root)]
    if reg.is_dir():
        beside += unreached.beside_concepts(reg)
    return subsets, (*read_otherwise, *misread, *empty, *(files.text for files in beside))


def _subsets(
    concepts: Sequence[tuple[layout.ConceptFolder, bool]], options: TrainOptions
) -> tuple[Subset, ...]:
    """Return concept folders as subsets of each block; with each whether it is of the
    regularisation set.
    """
    return tuple(
        Subset(
            concept.path,
            concept.concept.name,
            concept.concept.repeats,
            captions_in(concept.path, options),
            block,
            is_reg,
            options.flip_aug,
            options.random_crop,
            options.color_aug,
            is_reg and options.diff_output_preservation,
            options.resize_interpolation,
        )
        for block in options.blocks()
        for concept, is_reg in concepts
    )


def _tree(root: Path, notices: list[str] | None) -> layout.ConceptFolders:
    """Return the folders of a root. notices: read their names as sd-scripts does, and add one for
    each that is doubtful.
    """
    tree = layout.read_tree(root)
    if notices is None:
        return tree
    read = layout.as_trainers_read(root, tree)
    left_out = {folder.folder for folder in read.misread}
    for folder in tree.misread:
        if folder.trainers is not None and folder.folder not in left_out:
            notices.append(
                f"{display(folder.folder)} is trained as {folder.trainers.repeats} x "
                f"`{display(folder.trainers.name)}`, as sd-scripts reads it: {folder.reason}"
            )
    return read


def _require_folder(reg: Path) -> None:
    """Raise DatasetError for a `reg` that is a file, or a link to a folder that is missing."""
    if os.path.lexists(reg) and not reg.is_dir():
        what = "a link to what does not exist" if reg.is_symlink() else "not a folder"
        raise DatasetError(
            f"{display(reg)} is {what}: the run would go on without regularisation",
            hint="put the folder of regularisation images there, or rename "
            f"{display(reg)} to train without them",
        )


def _require_reg_concepts(reg: Path, trees: Sequence[tuple[layout.ConceptFolders, bool]]) -> None:
    """Raise DatasetError for regularisation images of which no folder is a concept: the run would
    go on without any.
    """
    tree = next((tree for tree, is_reg in trees if is_reg), None)
    if tree is None or tree.concepts:
        return
    folders = [m for m in tree.misread if unreached.count(reg / m.folder)]
    direct = list_images(reg).image_files
    if not direct and not folders:
        return
    what = f"{counted(direct, 'image')} beside it" if direct else folders[0].text
    raise DatasetError(
        f"{display(reg)} has no <repeats>_<class> folder: {what}",
        hint=f"move the images into {display(reg / '1_girl')}, named for their class, or rename "
        f"{display(reg)} to train without them",
    )


def _where_images_belong(folder: Path, root: Path) -> str:
    """Return what to do about a folder without concepts."""
    if isinstance(layout.parse(folder.absolute().name), layout.Concept) and has_images(folder):
        return (
            f"it is a concept folder: name the folder above it, {display(folder.absolute().parent)}"
        )
    for above in list_subfolders(root):
        if layout.read_tree(above).concepts:
            return f"they are one folder deeper: name {display(above)}"
    if has_images(root):
        return f"move its images into {display(root / '1_name')}, or run dsk layout"
    return "dsk layout creates them"


def _has_images(folder: Path, notices: list[str]) -> bool:
    """Tell whether a folder has images that can be read; else add a notice about what it has."""
    if has_images(folder):
        return True
    what = file_kinds.summary(list_images(folder).left_out)
    notices.append(f"{display(folder.name)} has no images" + (f"; {what}" if what else ""))
    return False


def _misread(tree: layout.ConceptFolders, is_reg: bool) -> list[str]:
    """Return notices about folders that are not concepts; `reg` and `masks` beside them are
    fine.
    """
    return [m.text for m in tree.misread if is_reg or m.folder not in (REG, MASKS)]


def make_plan(
    subsets: Sequence[Subset],
    options: TrainOptions,
    *,
    processes: int = 1,
    notices: Sequence[str] = (),
    whole: bool = True,
    record: Recorder | None = None,
    reporter: Reporter = SILENT,
) -> TrainingPlan:
    """Read every image and its caption, and plan the run; unreadable images are left out.

    Each image and mask is decoded once, as training will decode it: one that is cut short would end
    the run in the step that meets it. An image that its project has recorded so is not opened
    again. whole: read all others, however many they are; the plan of a run needs it. record: is
    called with those that were read now, some at a time.

    Raises DatasetError without any training image, ConfigError for an unknown optimizer or LR
    schedule, MissingExtra for a package that the run needs.
    """
    _check_names(options)
    require_opencv(subset.interpolation for subset in subsets)
    all_notices = list(notices)
    subsets = _once_per_block(subsets, all_notices)
    reader = ImageReader(
        tuple(dict.fromkeys(subset.block.rules for subset in subsets)),
        options.masked_loss,
        whole,
        record,
    )
    images, failed, left_out = _read_images(subsets, reader, all_notices, reporter)
    if line := file_kinds.summary(left_out):
        all_notices.append(line)
    all_notices += _letters(images)
    if all(p.subset.is_reg for p in images):
        why = f": {failed[0].path.name}: {failed[0].error}" if failed else ""
        raise DatasetError(f"no usable training image{why}", hint=failed[0].hint if failed else "")
    images, held_out = _split(images, options)
    samples = _count_samples(images, all_notices)
    batch_settings = BatchSettings(
        options.max_train_epochs,
        options.train_batch_size,
        options.gradient_accumulation_steps,
        processes,
    )
    totals = batch_settings.totals(_block_samples(images, samples))
    _check_preservation(images, options)
    without_mask = len({p.path for p in images if p.mask is None})
    if options.masked_loss and without_mask:
        all_notices.append(
            f"masked_loss: {without_mask} of {len({p.path for p in images})} images have no mask "
            "and count fully"
        )
    return TrainingPlan(
        tuple(images), samples, batch_settings, totals, options.max_train_steps or totals.steps,
        tuple(failed), tuple(all_notices), held_out, tuple(left_out),
    )  # fmt: skip


def _once_per_block(subsets: Sequence[Subset], notices: list[str]) -> list[Subset]:
    """Return each folder once per block, as sd-scripts does: the first time that it is named."""
    first: dict[tuple[int, Path], Subset] = {}
    for subset in subsets:
        key = (subset.block.number, subset.folder.resolve())
        if first.setdefault(key, subset) is not subset:
            notices.append(
                f"{display(subset.folder)} is named twice: the first is used, with "
                f"{counted(first[key].repeats, 'repeat')}"
            )
    return list(first.values())


def _block_samples(
    images: Sequence[TrainImage], samples: Sequence[int]
) -> tuple[BlockSamples, ...]:
    """Return the samples per epoch in each block's buckets."""
    buckets: dict[DatasetBlock, Counter[Size]] = {block: Counter() for block in _blocks(images)}
    for image, n in zip(images, samples, strict=True):
        if n:
            buckets[image.subset.block][image.bucket.bucket] += n
    return tuple(
        BlockSamples(counts, block.batch_size, block.rules.resolution)
        for block, counts in buckets.items()
    )


def _check_preservation(images: Sequence[TrainImage], options: TrainOptions) -> None:
    if options.diff_output_preservation and not any(p.subset.preserved for p in images):
        raise DatasetError(
            "diff_output_preservation needs regularisation images",
            hint="its target is the base model's prediction for them: add some, or remove it",
        )


def _check_names(options: TrainOptions) -> None:
    """Reject unknown names and malformed arguments; the classes themselves are tried at the start
    of the run.
    """
    check_rates(
        options.optimizer_type,
        {f"{name}_lr": rate for name, rate in possible_rates(options).items()},
    )
    literal_args(options.optimizer_args)
    if not options.lr_scheduler_type:
        one_of("lr_scheduler", options.lr_scheduler, *SCHEDULES)


def _split(
    images: list[TrainImage], options: TrainOptions
) -> tuple[list[TrainImage], tuple[TrainImage, ...]]:
    """Return the images to train, and the held-out ones in validation order."""
    training = [p.id for p in images if not p.subset.is_reg]
    reg = [p.id for p in images if p.subset.is_reg]
    chosen = validation_split.held_out(
        training, reg, options.validation_split, options.validation_seed or 0
    )
    if not chosen:
        return images, ()
    held_out: dict[str, list[TrainImage]] = {image_id: [] for image_id in chosen}
    for image in images:
        if image.id in held_out:
            held_out[image.id].append(image)
    in_order = tuple(image for several in held_out.values() for image in several)
    return [image for image in images if image.id not in held_out], in_order


def _read_images(
    subsets: Sequence[Subset], reader: ImageReader, notices: list[str], reporter: Reporter
) -> tuple[list[TrainImage], list[Failed], list[LeftOut]]:
    """Read the images of all subsets: those to train, those that failed, and other files.

    A folder that several blocks train is read once.
    """
    images: list[TrainImage] = []
    failed: list[Failed] = []
    left_out: list[LeftOut] = []
    read: dict[tuple[Path, CaptionSyntax], ReadFolder] = {}
    reported: set[Path] = set()
    folders = {subset.folder.resolve() for subset in subsets}
    for subset in subsets:
        syntax = subset.captions.syntax
        if (subset.folder, syntax) not in read:
            read[subset.folder, syntax] = reader.folder(subset.folder, syntax, reporter)
        folder = read[subset.folder, syntax]
        bucket_of = cache(partial(select, subset.block.rules))
        images += [
            TrainImage(
                image.path,
                image.id,
                image.size,
                image.caption or subset.name,
                bucket_of(*image.size),
                subset,
                image.mask,
                image.captioned,
            )
            for image in folder.images
        ]
        if subset.folder not in reported:
            reported.add(subset.folder)
            failed += folder.failed
            left_out += folder.left_out
            notices += [*folder.notices, *_without_caption(subset, folder)]
            notices += [
                files.text
                for files in unreached.below_concept(subset.folder)
                if files.folder.resolve() not in folders
            ]
    return images, failed, left_out


def _without_caption(subset: Subset, folder: ReadFolder) -> list[str]:
    count = sum(image.captioned != "written" for image in folder.images)
    if not count or subset.is_reg:
        return []
    images, get = counted(count, "image"), "gets" if count == 1 else "get"
    name = display(subset.folder.name)
    if not subset.name:
        return [
            f"{name}: {images} without a caption {get} an empty one, as in sd-scripts: "
            "class_tokens, or the name after the number of the folder, gives them another"
        ]
    return [f"{name}: {images} without a caption {get} the caption `{display(subset.name)}`"]


def _letters(images: Iterable[TrainImage]) -> list[str]:
    """Return a notice about captions with letters that sd-scripts makes plain before CLIP."""
    texts = {
        image.path: image.caption
        for image in images
        if image.captioned == "written"
        and ("&" in image.caption or not image.caption.isascii())  # few: the others are plain
    }
    changed = [path for path, text in texts.items() if is_read_otherwise(parse(text))]
    if not changed:
        return []
    folder = shlex.quote(str(changed[0].parent))
    return [
        "curly quotes, full-width letters or HTML entities in "
        f"{counted(len(changed), 'caption')}: sd-scripts makes them plain, dsk trains them as they "
        f"are; to make them plain: dsk check {folder} --fix"
    ]


def _count_samples(images: Sequence[TrainImage], notices: list[str]) -> tuple[int, ...]:
    """Return the samples of each image per epoch: its repeats; regularisation images are matched to
    the training samples of their block.
    """
    samples = [0] * len(images)
    blocks = _blocks(images)
    for block in blocks:
        where = f"{block_name(block)}: " if len(blocks) > 1 else ""
        numbered = [
            (i, p.subset)
            for i, p in enumerate(images)
            if p.subset.block is block or p.subset.block == block
        ]
        for i, subset in numbered:
            samples[i] = 0 if subset.is_reg else subset.repeats
        reg = [(i, subset.repeats) for i, subset in numbered if subset.is_reg]
        matched = reg_samples(sum(samples[i] for i, _ in numbered), reg)
        for i, n in matched.samples:
            samples[i] = n
        if len(reg) == len(numbered):
            notices.append(
                f"{where}none of its {len(reg)} regularisation images is used: it has no training "
                "images, to which they would be matched"
            )
        elif matched.unused:
            notices.append(
                where
                + f"{len(matched.unused)} of {len(reg)} regularisation images are not used in an "
                "epoch"
            )
    return tuple(samples)
