"""The plan of a run, before anything is loaded: which images, in which buckets, how often, and
how many steps.

It is counted by the same functions as `dsk plan-repeats`, and needs no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasetkit.captions.caption import decode_caption, parse
from datasetkit.core.errors import DatasetError, DskError
from datasetkit.core.files import (
    MASKS,
    caption_path,
    display,
    image_id,
    list_images,
    mask_path,
    read_regular,
)
from datasetkit.core.files import MAX_CAPTION_BYTES as _LONGEST
from datasetkit.core.ranges import one_of
from datasetkit.core.records import Failed
from datasetkit.dataset import layout, validation_split
from datasetkit.dataset.buckets import Bucket, Size, select
from datasetkit.dataset.layout import REG
from datasetkit.dataset.repeats import BatchSettings, Totals, reg_samples
from datasetkit.images import pixels
from datasetkit.options.train import TrainOptions
from trainer.data.captions import CaptionOptions
from trainer.networks.parameter_groups import possible_rates
from trainer.optimizers.lr_schedules import SCHEDULES
from trainer.optimizers.optimizer_names import check_rates, literal_args

# Whether an image has a caption of its own; without one it takes its subset's name.
Captioned = Literal["written", "missing", "empty"]


@dataclass(frozen=True, slots=True)
class Subset:
    """One folder of images. name: the caption of an image that has none. is_reg: its loss has
    its own weight.

    color: its colours are changed a little at each sample. preserved: what is to be learned of it
    is what the base model predicts.
    """

    folder: Path
    name: str
    repeats: int
    captions: CaptionOptions
    is_reg: bool = False
    flip: bool = False
    random_crop: bool = False
    color: bool = False
    preserved: bool = False


@dataclass(frozen=True, slots=True)
class TrainImage:
    """One image as it is trained. id: of its bytes; size: as it is looked at; mask: its mask
    file, if any.

    caption: what is trained; captioned: whether that stands in a caption file.
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
    """What will be done. samples: how often an epoch sees each of the images, 0 for an unused
    regularisation image.

    totals: of an epoch, and the optimizer steps of max_train_epochs; steps: those that will be
    taken, fewer or more where max_train_steps says so; epochs: the number that is begun. notices:
    what a person should know. held_out: what is not trained but validated, in that order.
    """

    images: tuple[TrainImage, ...]
    samples: tuple[int, ...]
    batch_settings: BatchSettings
    totals: Totals
    steps: int
    failed: tuple[Failed, ...] = ()
    notices: tuple[str, ...] = ()
    held_out: tuple[TrainImage, ...] = ()

    @property
    def epochs(self) -> int:
        return -(-self.steps // self.totals.steps_per_epoch)

    @property
    def subsets(self) -> tuple[Subset, ...]:
        return tuple(dict.fromkeys(p.subset for p in self.images))

    def count(self, *, is_reg: bool) -> int:
        """Return the samples of an epoch to the training or to the regularisation images."""
        return sum(
            n for p, n in zip(self.images, self.samples, strict=True) if p.subset.is_reg == is_reg
        )

    @property
    def mean_ar_error(self) -> float:
        """Return the mean difference of the aspect ratios of bucket and image, each
        image once.
        """
        errors = [
            abs(p.bucket.bucket[0] / p.bucket.bucket[1] - p.size[0] / p.size[1])
            for p in self.images
        ]
        return sum(errors) / len(errors)


def caption_options(options: TrainOptions) -> CaptionOptions:
    """Return how captions vary, as the options of the run say."""
    return CaptionOptions(
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


def find_subsets(folder: Path, options: TrainOptions) -> tuple[tuple[Subset, ...], tuple[str, ...]]:
    """Find the concept folders of a laid-out dataset: `train/` and `reg/` in it, or the folders
    themselves.

    Return them, training first, and the folders that are no concept in words. Raises DatasetError.
    """
    if not folder.is_dir():
        raise DatasetError(
            f"{display(folder)} does not exist",
            hint="name the dataset's folder; dsk layout makes it",
        )
    root, reg = layout.dataset_roots(folder)
    trees = [(layout.read_tree(root), False)]
    if reg.is_dir():
        trees.append((layout.read_tree(reg), True))
    found = tuple(
        Subset(
            concept.path,
            concept.concept.name,
            concept.concept.repeats,
            caption_options(options),
            is_reg,
            options.flip_aug,
            options.random_crop,
            options.color_aug,
            is_reg and options.diff_output_preservation,
        )
        for tree, is_reg in trees
        for concept in tree.concepts
        if list_images(concept.path).images
    )
    if not any(not subset.is_reg for subset in found):
        raise DatasetError(
            f"{display(folder)} holds no <repeats>_<concept> folders with images",
            hint="dsk layout makes them",
        )
    misread = (
        m for tree, is_reg in trees for m in tree.misread if m.folder not in (REG, MASKS) or is_reg
    )
    return found, tuple(m.text for m in misread)


def make_plan(
    subsets: Sequence[Subset],
    options: TrainOptions,
    *,
    processes: int = 1,
    notices: Sequence[str] = (),
) -> TrainingPlan:
    """Look at every image and count the run. An image that cannot be read costs only itself.

    Raises DatasetError where no training image is left, ConfigError for an optimizer or a
    schedule that nobody knows.
    """
    _check_names(options)
    images: list[TrainImage] = []
    failed: list[Failed] = []
    said = list(notices)
    for subset in subsets:
        _read_subset(subset, options, images, failed, said)
    own = [p for p in images if not p.subset.is_reg]
    if not own:
        why = f": {failed[0].path.name}: {failed[0].error}" if failed else ""
        raise DatasetError(f"no usable training image{why}", hint=failed[0].hint if failed else "")
    images, held_out = _split(images, options)
    samples = _count_samples(images, said)
    batch_settings = BatchSettings(
        options.max_train_epochs,
        options.train_batch_size,
        options.gradient_accumulation_steps,
        processes,
    )
    buckets: Counter[Size] = Counter()
    for image, n in zip(images, samples, strict=True):
        if n:
            buckets[image.bucket.bucket] += n
    totals = batch_settings.totals(buckets)
    if options.diff_output_preservation and not any(p.subset.preserved for p in images):
        hint = "its target is what the base model predicts for them: add them, or take it out"
        raise DatasetError("diff_output_preservation needs regularisation images", hint=hint)
    if options.masked_loss:
        without = sum(p.mask is None for p in images)
        if without:
            said.append(
                f"masked_loss: {without} of {len(images)} images have no mask and count whole"
            )
    return TrainingPlan(
        tuple(images), samples, batch_settings, totals, options.max_train_steps or totals.steps,
        tuple(failed), tuple(said), held_out,
    )  # fmt: skip


def _check_names(options: TrainOptions) -> None:
    """Refuse names and arguments that nobody knows; whether a class takes its arguments is seen
    before the start.
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
    """Return the images that are trained, and those that are held out in the order in which they
    are validated.
    """
    own = [p.id for p in images if not p.subset.is_reg]
    reg = [p.id for p in images if p.subset.is_reg]
    chosen = validation_split.held_out(
        own, reg, options.validation_split, options.validation_seed or 0
    )
    held = [p for one in chosen for p in images if p.id == one]
    return [p for p in images if p.id not in chosen], tuple(held)


def _read_subset(
    subset: Subset,
    options: TrainOptions,
    images: list[TrainImage],
    failed: list[Failed],
    notices: list[str],
) -> None:
    if not subset.folder.is_dir():
        raise DatasetError(
            f"{display(subset.folder)} does not exist", hint="check the folder of this subset"
        )
    listing = list_images(subset.folder)
    failed.extend(listing.failed)
    rules = options.bucket_rules()
    owners: dict[Path, Path] = {}
    nameless = 0
    for path in listing.images:
        try:
            owner = owners.setdefault(caption_path(path), path)
            if owner != path:
                raise DatasetError(
                    f"would share its caption with {display(owner.name)}",
                    hint="dsk rename makes the names unique",
                )
            seen = pixels.probe(path)
            caption, both = _caption(path, lines=subset.captions.enable_wildcard)
            if both:
                notices.append(f"{display(path.name)} has a .txt and a .caption: the .txt is read")
            captioned: Captioned = (
                "missing" if caption is None else "written" if caption else "empty"
            )
            nameless += captioned != "written"
            size = (seen.width, seen.height)
            mask = mask_path(path)
            images.append(
                TrainImage(
                    path,
                    image_id(path),
                    size,
                    caption or subset.name,
                    select(rules, *size),
                    subset,
                    mask if options.masked_loss and mask.is_file() else None,
                    captioned,
                )
            )
        except DskError as error:
            failed.append(Failed(path, error.message, error.hint))
    if nameless and not subset.is_reg:
        name = display(subset.folder.name)
        notices.append(
            f"{name}: {nameless} images without caption are captioned `{display(subset.name)}`"
        )


def _caption(path: Path, *, lines: bool) -> tuple[str | None, bool]:
    """Return an image's caption, None for none, and whether `.caption` stands beside the `.txt`
    that was read.

    lines: each line stays a caption by itself; else they are joined.
    """
    source, other = caption_path(path), path.with_suffix(".caption")
    data = read_regular(source, limit=_LONGEST)
    both = data is not None and other.is_file()
    if data is None:
        source, data = other, read_regular(other, limit=_LONGEST)
    read = decode_caption(source, data)
    if read is None or data is None:
        return None, both
    if not lines:
        return read.text(), both
    each = (parse(line).text() for line in data.decode("utf-8-sig").splitlines())
    return "\n".join(text for text in each if text), both


def _count_samples(images: Sequence[TrainImage], notices: list[str]) -> tuple[int, ...]:
    """Return the samples of an epoch to each image: its repeats; regularisation is matched to the
    training samples.
    """
    samples = [0 if p.subset.is_reg else p.subset.repeats for p in images]
    reg = [(i, p.subset.repeats) for i, p in enumerate(images) if p.subset.is_reg]
    matched = reg_samples(sum(samples), reg)
    for i, n in matched.samples:
        samples[i] = n
    if matched.unused:
        notices.append(
            f"{len(matched.unused)} of {len(reg)} regularisation images are more than an epoch uses"
        )
    return tuple(samples)
