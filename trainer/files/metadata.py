"""The training metadata of a LoRA file: sd-scripts' `ss_*` and `sshs_*` keys, and modelspec.

All values are strings. Of paths only base names are written, because a LoRA is shared: no folder,
host or user name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

from torch import Tensor

from datasetkit import __version__
from datasetkit.core.errors import ConfigError
from datasetkit.options.declare import by_name
from datasetkit.options.train import TrainOptions
from trainer.files.hashes import sshs_hashes

# Size in the header. Readers accept headers up to 100 MB, but the legacy hash uses the bytes at
# 1 MiB, which must be tensor data. The tensor list of the largest LoRA (SDXL, a thousand modules)
# takes less than half a megabyte.
TAG_FREQUENCY_BYTES: Final = 500_000

# Options copied under their own name, as `ss_<name>`. For options that this trainer does not have,
# sd-scripts would write "None" or "False"; readers expect the keys, and the values are true.
_COPIED: Final = [n for n, option in by_name(TrainOptions).items() if option.in_metadata]
_ABSENT: Final = {
    "ss_face_crop_aug_range": "None",
    "ss_full_fp16": "False",
    "ss_lowram": "False",
}
# Written for losses that use them, else as "None".
_HUBER: Final = ("huber_schedule", "huber_c", "huber_scale")
_ABSOLUTE: Final = re.compile(r"/|~|[A-Za-z]:[\\/]|\\\\")
# Of a run with one resolution; with several blocks `ss_datasets` has them.
_OF_ONE_BLOCK: Final = (
    "batch_size_per_device", "total_batch_size", "resolution", "color_aug", "flip_aug",
    "random_crop", "shuffle_caption", "enable_bucket", "bucket_no_upscale", "min_bucket_reso",
    "max_bucket_reso", "keep_tokens", "bucket_info",
)  # fmt: skip
# Kept with `no_metadata`: what is needed to load the file correctly.
_MINIMAL: Final = (
    "ss_v2", "ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha",
    "ss_network_args",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SubsetFacts:
    """One folder of images. folder: its path or name; captions: as in the files, one per image.
    settings: its own options, by sd-scripts' names.
    """

    folder: str
    repeats: int
    images: int
    is_reg: bool = False
    captions: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """One resolution of a run, or one `[[datasets]]`. sides: the smallest and the largest of its
    buckets, None without buckets. num_train_images, num_reg_images: samples per epoch. The rest as
    in RunFacts.
    """

    resolution: tuple[int, int]
    batch_size: int
    sides: tuple[int, int] | None
    num_train_images: int
    num_reg_images: int
    subsets: Sequence[SubsetFacts]
    buckets: Mapping[tuple[int, int], int]
    mean_ar_error: float


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """A base model or VAE. path: its path or name; short_hash, full_hash: see
    trainer/files/hashes.py.
    """

    path: str
    short_hash: str = ""
    full_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The facts known before the first step.

    options: `[train]` by sd-scripts' names. optimizer: its class and arguments. resolution: (width,
    height), pixels. started_at: seconds since 1970, see `now`. num_train_images, num_reg_images:
    samples per epoch. num_validation_images: held-out images. lr_warmup_steps: optimizer steps.
    batch_size: images per step and process. buckets: (width, height) -> samples per epoch.
    mean_ar_error: of the buckets' aspect ratios. blocks: more than one if the run has several.
    process: how times are drawn, by sd-scripts' names. For modelspec: prediction is "epsilon", "v"
    or "flow", timesteps are (low, high).
    """

    options: Mapping[str, object]
    output_name: str
    optimizer: str
    resolution: tuple[int, int]
    started_at: float
    num_train_images: int
    num_reg_images: int
    num_validation_images: int = 0
    num_batches_per_epoch: int
    num_epochs: int
    max_train_steps: int
    lr_warmup_steps: int
    batch_size: int
    processes: int = 1
    subsets: Sequence[SubsetFacts] = ()
    buckets: Mapping[tuple[int, int], int] = field(default_factory=dict)
    mean_ar_error: float = 0.0
    blocks: Sequence[BlockFacts] = ()
    network_args: Mapping[str, object] = field(default_factory=dict)
    base_model: BaseFacts
    vae: BaseFacts | None = None
    base_model_version: str = "sd_v1"
    architecture: str = "stable-diffusion-v1/lora"
    implementation: str = "diffusers"
    prediction: str = "epsilon"
    process: Mapping[str, object] = field(default_factory=dict)
    timesteps: tuple[int, int] = (0, 1000)
    v2: bool = False


@dataclass(frozen=True, slots=True)
class SaveFacts:
    """The facts of one save. finished_at: seconds since 1970; steps, epoch: done so far."""

    finished_at: float
    steps: int
    epoch: int


def now(environ: Mapping[str, str] = os.environ) -> float:
    """Return the time in seconds since 1970, or SOURCE_DATE_EPOCH if set, for reproducible runs."""
    fixed = environ.get("SOURCE_DATE_EPOCH", "")
    if not fixed:
        return time.time()
    if not fixed.isascii() or not fixed.isdigit():
        raise ConfigError(
            f"SOURCE_DATE_EPOCH = {fixed!r}", hint="give whole seconds since 1970, or unset it"
        )
    return float(fixed)


def base_name(path: str) -> str:
    """Return the last part of a path (of any system) or of a hub id."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def run_metadata(facts: RunFacts) -> dict[str, str]:
    """Return the `ss_*` keys known before the first step."""
    counted = {
        "session_id": _session_id(facts),
        "training_started_at": facts.started_at,
        "output_name": base_name(facts.output_name),
        "num_train_images": facts.num_train_images,
        "num_validation_images": facts.num_validation_images,
        "num_reg_images": facts.num_reg_images,
        "num_batches_per_epoch": facts.num_batches_per_epoch,
        "num_epochs": facts.num_epochs,
        "max_train_steps": facts.max_train_steps,
        "lr_warmup_steps": facts.lr_warmup_steps,
        "batch_size_per_device": facts.batch_size,
        "total_batch_size": facts.batch_size * facts.processes,
        "resolution": facts.resolution,
        "optimizer": facts.optimizer,
        "debiased_estimation": bool(facts.options.get("debiased_estimation_loss")),
        "v2": facts.v2,
        "base_model_version": facts.base_model_version,
        "bucket_info": _json(bucket_info(facts.buckets, facts.mean_ar_error)),
    }
    huber = facts.options.get("loss_type") in ("huber", "smooth_l1")
    copied = {
        f"ss_{name}": str(facts.options.get(name) if huber or name not in _HUBER else None)
        for name in _COPIED
    }
    numbers = {f"ss_{name}": str(value) for name, value in counted.items()}
    averaged = {"ss_ema_decay": str(ema)} if (ema := facts.options.get("ema_decay")) else {}
    network = _network_args(facts) | averaged
    network |= {f"ss_{name}": str(value) for name, value in facts.process.items()}
    entries = {**_ABSENT, **copied, **numbers, **network, **_files(facts)}
    if len(facts.blocks) <= 1:
        return entries | _folders(facts.subsets)
    single = {f"ss_{name}" for name in _OF_ONE_BLOCK}
    return {k: text for k, text in entries.items() if k not in single} | _datasets(facts)


def final_metadata(
    tensors: Mapping[str, Tensor], facts: RunFacts, save: SaveFacts
) -> dict[str, str]:
    """Return the complete metadata of a LoRA file. tensors: exactly as they are saved, on the
    CPU.
    """
    entries = run_metadata(facts)
    entries["ss_training_finished_at"] = str(save.finished_at)
    entries["ss_steps"], entries["ss_epoch"] = str(save.steps), str(save.epoch)
    entries["sshs_model_hash"], entries["sshs_legacy_hash"] = sshs_hashes(tensors, entries)
    return {**entries, **modelspec(facts, save)}


def minimal(metadata: Mapping[str, str]) -> dict[str, str]:
    """Keep only what is needed to load the file (sd-scripts' `no_metadata`)."""
    return {
        key: text
        for key, text in metadata.items()
        if key in _MINIMAL or key.startswith("modelspec.")
    }


def modelspec(facts: RunFacts, save: SaveFacts) -> dict[str, str]:
    """Return the modelspec keys (Stability AI's model metadata standard 1.0.1). The date is UTC."""
    width, height = facts.resolution
    clip_skip = facts.options.get("clip_skip")
    spec = {
        "sai_model_spec": "1.0.1",
        "architecture": facts.architecture,
        "implementation": facts.implementation,
        "implementation_version": f"datasetkit/{__version__}",
        "title": base_name(facts.output_name),
        "resolution": f"{width}x{height}",
        "date": datetime.fromtimestamp(int(save.finished_at), UTC).replace(tzinfo=None).isoformat(),
        # The standard has no word for a flow.
        **({} if facts.prediction == "flow" else {"prediction_type": facts.prediction}),
        "timestep_range": f"{facts.timesteps[0]},{facts.timesteps[1]}",
        **({} if clip_skip is None else {"encoder_layer": str(clip_skip)}),
    }
    return {f"modelspec.{key}": text for key, text in spec.items()}


def tag_frequency(subsets: Iterable[SubsetFacts]) -> dict[str, dict[str, int]]:
    """Count the images with each tag: folder -> tag -> images, without repeats, most frequent
    first.

    As in sd-scripts: split at commas, lower case; a tag that occurs twice in a caption counts
    twice.
    """
    counted: dict[str, dict[str, int]] = {}
    for name, subset in _named(subsets):
        tags = (tag.strip().lower() for caption in subset.captions for tag in caption.split(","))
        counted[name] = dict(Counter(tag for tag in tags if tag).most_common())
    return counted


def fitted(
    frequency: Mapping[str, Mapping[str, int]], limit: int = TAG_FREQUENCY_BYTES
) -> tuple[str, int]:
    """Return the frequencies as JSON below `limit` bytes, and how many of the rarest are left
    out.
    """
    rows = sorted(
        ((n, folder, tag) for folder, tags in frequency.items() for tag, n in tags.items()),
        reverse=True,
    )
    kept: dict[str, dict[str, int]] = {folder: {} for folder in frequency}
    size = _header_bytes(_json(kept))
    for done, (n, folder, tag) in enumerate(rows):
        size += _header_bytes(f"{_json(tag)}: {n}, ") - 2
        if size >= limit:
            return _json(kept), len(rows) - done
        kept[folder][tag] = n
    return _json(kept), 0


def dataset_dirs(subsets: Iterable[SubsetFacts], *, is_reg: bool) -> dict[str, dict[str, int]]:
    """Return folder -> repeats and number of images, of training or regularisation folders."""
    chosen = ((name, subset) for name, subset in _named(subsets) if subset.is_reg == is_reg)
    return {
        name: {"n_repeats": subset.repeats, "img_count": subset.images} for name, subset in chosen
    }


def bucket_info(buckets: Mapping[tuple[int, int], int], mean_ar_error: float) -> dict[str, Any]:
    """Return the buckets sorted by size with their samples per epoch, and the mean aspect error."""
    return {
        "buckets": {
            str(i): {"resolution": list(size), "count": samples}
            for i, (size, samples) in enumerate(sorted(buckets.items()))
        },
        "mean_img_ar_error": mean_ar_error,
    }


def _session_id(facts: RunFacts) -> int:
    """Return a 32-bit id derived from the seed and the start time."""
    data = json.dumps([facts.options.get("seed"), facts.started_at]).encode("ascii")
    return int.from_bytes(hashlib.sha256(data).digest()[:4], "big")


def _folders(subsets: Sequence[SubsetFacts]) -> dict[str, str]:
    frequency, left_out = fitted(tag_frequency(subsets))
    entries = {
        "ss_dataset_dirs": _json(dataset_dirs(subsets, is_reg=False)),
        "ss_reg_dataset_dirs": _json(dataset_dirs(subsets, is_reg=True)),
        "ss_tag_frequency": frequency,
    }
    return entries | ({"ss_tag_frequency_left_out": str(left_out)} if left_out else {})


def _datasets(facts: RunFacts) -> dict[str, str]:
    """Return the keys that sd-scripts writes for several `[[datasets]]`: what of them differs is in
    `ss_datasets`, and a folder's tags are counted once.
    """
    limit = TAG_FREQUENCY_BYTES // (len(facts.blocks) + 1)
    once = {subset.folder: subset for block in facts.blocks for subset in block.subsets}
    frequency, left_out = fitted(tag_frequency(once.values()), limit)
    subsets = [subset for block in facts.blocks for subset in block.subsets]
    resampling = facts.options.get("resize_interpolation")
    entries = {
        "ss_datasets": _json([_dataset(block, resampling, limit) for block in facts.blocks]),
        "ss_dataset_dirs": _json(dataset_dirs(subsets, is_reg=False)),
        "ss_tag_frequency": frequency,
    }
    return entries | ({"ss_tag_frequency_left_out": str(left_out)} if left_out else {})


def _dataset(block: BlockFacts, resampling: object, limit: int) -> dict[str, Any]:
    low, high = block.sides or (None, None)
    return {
        "is_dreambooth": True,
        "batch_size_per_device": block.batch_size,
        "num_train_images": block.num_train_images,
        "num_reg_images": block.num_reg_images,
        "resolution": list(block.resolution),
        "enable_bucket": block.sides is not None,
        "min_bucket_reso": low,
        "max_bucket_reso": high,
        "tag_frequency": json.loads(fitted(tag_frequency(block.subsets), limit)[0]),
        "bucket_info": bucket_info(block.buckets, block.mean_ar_error),
        "resize_interpolation": resampling,
        "subsets": [
            {
                "img_count": subset.images,
                "num_repeats": subset.repeats,
                **subset.settings,
                "resize_interpolation": resampling,
                "image_dir": base_name(subset.folder),
                "is_reg": subset.is_reg,
            }
            for subset in block.subsets
        ],
    }


def _network_args(facts: RunFacts) -> dict[str, str]:
    arguments = {key: _without_folder(value) for key, value in facts.network_args.items()}
    return {"ss_network_args": _json(arguments)} if arguments else {}


def _without_folder(value: object) -> object:
    """Return the base name of an absolute path, and any other text (such as a pattern)
    unchanged.
    """
    return base_name(value) if isinstance(value, str) and _ABSOLUTE.match(value) else value


def _files(facts: RunFacts) -> dict[str, str]:
    """Return the names and hashes of the base model and of a separate VAE."""
    entries = {
        "ss_sd_model_name": base_name(facts.base_model.path),
        "ss_sd_model_hash": facts.base_model.short_hash,
        "ss_new_sd_model_hash": facts.base_model.full_hash,
    }
    if facts.vae:
        entries |= {
            "ss_vae_name": base_name(facts.vae.path),
            "ss_vae_hash": facts.vae.short_hash,
            "ss_new_vae_hash": facts.vae.full_hash,
        }
    return {key: text for key, text in entries.items() if text}


def _named(subsets: Iterable[SubsetFacts]) -> list[tuple[str, SubsetFacts]]:
    """Return base name -> folder; further folders with the same name are numbered."""
    named: dict[str, SubsetFacts] = {}
    for subset in subsets:
        name = base_name(subset.folder)
        numbered = (f"{name} ({i})" for i in count(2))
        named[
            name if name not in named else next(free for free in numbered if free not in named)
        ] = subset
    return list(named.items())


def _header_bytes(text: str) -> int:
    """Return a text's size in the header, which is JSON itself: quotes are escaped once more."""
    return len(_json(text))


def _json(value: object) -> str:
    return json.dumps(value)
