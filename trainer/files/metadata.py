"""What a LoRA file says about its training: sd-scripts' `ss_*` and `sshs_*` keys, and modelspec.

All values are texts. Only base names are written: no directory, home, host or user (a LoRA is given
away).
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

# As it stands in the header. Readers stop at a header of 100 MB, but the legacy hash looks at what
# begins at 1 MiB: that must be tensors. Those of the largest LoRA (SDXL, a thousand modules) are
# listed in less than half a megabyte.
TAG_FREQUENCY_BYTES: Final = 500_000

# Options that are copied under their own name, as `ss_<name>`. What this trainer does not have,
# sd-scripts writes as "None" or "False"; readers expect the keys, and those values are true.
_COPIED: Final = [n for n, option in by_name(TrainOptions).items() if option.in_metadata]
_ABSENT: Final = {
    "ss_face_crop_aug_range": "None",
    "ss_full_fp16": "False",
    "ss_lowram": "False",
    "ss_resize_interpolation": "None",
}
# Written where the loss has them, else as "None".
_HUBER: Final = ("huber_schedule", "huber_c", "huber_scale")
_ABSOLUTE: Final = re.compile(r"/|~|[A-Za-z]:[\\/]|\\\\")
# What is left with `no_metadata`: enough to load the file rightly.
_MINIMAL: Final = (
    "ss_v2", "ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha",
    "ss_network_args",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SubsetFacts:
    """One folder of images. folder: its path or name; captions: as they stand in the files, one a
    image.
    """

    folder: str
    repeats: int
    images: int
    is_reg: bool = False
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """A file that training started from. path: its path or name; short_hash, full_hash: see
    trainer/files/hashes.py.
    """

    path: str
    short_hash: str = ""
    full_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is known before the first step.

    options: `[train]` by sd-scripts' names. optimizer: its class and arguments. resolution: (width,
    height), pixels. started_at: seconds since 1970, see `now`. num_train_images, num_reg_images:
    samples an epoch. num_validation_images: images that are held out. lr_warmup_steps: optimizer
    steps. batch_size: images a step and process. buckets: (width, height) -> samples an epoch.
    mean_ar_error: of bucket against image. Of modelspec: prediction is "epsilon" or "v",
    timesteps are (low, high).
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
    network_args: Mapping[str, object] = field(default_factory=dict)
    base_model: BaseFacts
    vae: BaseFacts | None = None
    base_model_version: str = "sd_v1"
    architecture: str = "stable-diffusion-v1/lora"
    implementation: str = "diffusers"
    prediction: str = "epsilon"
    timesteps: tuple[int, int] = (0, 1000)
    v2: bool = False


@dataclass(frozen=True, slots=True)
class SaveFacts:
    """The moment of a save. finished_at: seconds since 1970; steps, epoch: done so far."""

    finished_at: float
    steps: int
    epoch: int


def now(environ: Mapping[str, str] = os.environ) -> float:
    """Return the time in seconds since 1970: SOURCE_DATE_EPOCH where it is set, so that a run can
    be repeated.
    """
    fixed = environ.get("SOURCE_DATE_EPOCH", "")
    if not fixed:
        return time.time()
    if not fixed.isascii() or not fixed.isdigit():
        raise ConfigError(
            f"SOURCE_DATE_EPOCH = {fixed!r}", hint="give whole seconds since 1970, or unset it"
        )
    return float(fixed)


def base_name(path: str) -> str:
    """Return the last part of a path of any system; of a hub id, the model's name."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def run_metadata(facts: RunFacts) -> dict[str, str]:
    """Return the `ss_*` keys that are known before the first step, so that their size can be
    checked then.
    """
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
        "bucket_info": _json(bucket_info(facts)),
    }
    huber = facts.options.get("loss_type") in ("huber", "smooth_l1")
    copied = {
        f"ss_{name}": str(facts.options.get(name) if huber or name not in _HUBER else None)
        for name in _COPIED
    }
    numbers = {f"ss_{name}": str(value) for name, value in counted.items()}
    averaged = {"ss_ema_decay": str(ema)} if (ema := facts.options.get("ema_decay")) else {}
    network = _network_args(facts) | averaged
    return {**_ABSENT, **copied, **numbers, **_folders(facts.subsets), **network, **_files(facts)}


def final_metadata(
    tensors: Mapping[str, Tensor], facts: RunFacts, save: SaveFacts
) -> dict[str, str]:
    """Return all that is written into a LoRA file. tensors: just as they will be saved, on
    the CPU.
    """
    said = run_metadata(facts)
    said["ss_training_finished_at"] = str(save.finished_at)
    said["ss_steps"], said["ss_epoch"] = str(save.steps), str(save.epoch)
    said["sshs_model_hash"], said["sshs_legacy_hash"] = sshs_hashes(tensors, said)
    return {**said, **modelspec(facts, save)}


def minimal(metadata: Mapping[str, str]) -> dict[str, str]:
    """Keep what a loader needs, for those who give nothing away (sd-scripts' `no_metadata`)."""
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
        "prediction_type": facts.prediction,
        "timestep_range": f"{facts.timesteps[0]},{facts.timesteps[1]}",
        **({} if clip_skip is None else {"encoder_layer": str(clip_skip)}),
    }
    return {f"modelspec.{key}": text for key, text in spec.items()}


def tag_frequency(subsets: Iterable[SubsetFacts]) -> dict[str, dict[str, int]]:
    """Count the images that have each tag: folder -> tag -> images, without repeats, most
    frequent first.

    As sd-scripts: parted by commas, lower case. A tag that a caption says twice is counted twice.
    """
    counted: dict[str, dict[str, int]] = {}
    for name, subset in _named(subsets):
        tags = (tag.strip().lower() for caption in subset.captions for tag in caption.split(","))
        counted[name] = dict(Counter(tag for tag in tags if tag).most_common())
    return counted


def fitted(
    frequency: Mapping[str, Mapping[str, int]], limit: int = TAG_FREQUENCY_BYTES
) -> tuple[str, int]:
    """Return the frequencies as JSON that takes less than `limit` bytes, and how many of the rarest
    were left out.
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
    """Return folder -> its repeats and its number of images, of training or of regularisation."""
    chosen = ((name, subset) for name, subset in _named(subsets) if subset.is_reg == is_reg)
    return {
        name: {"n_repeats": subset.repeats, "img_count": subset.images} for name, subset in chosen
    }


def bucket_info(facts: RunFacts) -> dict[str, Any]:
    """Return the buckets in the order of their sizes, each with its samples an epoch, and the mean
    error of shape.
    """
    buckets = enumerate(sorted(facts.buckets.items()))
    return {
        "buckets": {
            str(i): {"resolution": list(size), "count": samples} for i, (size, samples) in buckets
        },
        "mean_img_ar_error": facts.mean_ar_error,
    }


def _session_id(facts: RunFacts) -> int:
    """Return 32 bits that differ from run to run, and are the same where the seed and the
    date are.
    """
    said = json.dumps([facts.options.get("seed"), facts.started_at]).encode("ascii")
    return int.from_bytes(hashlib.sha256(said).digest()[:4], "big")


def _folders(subsets: Sequence[SubsetFacts]) -> dict[str, str]:
    frequency, left_out = fitted(tag_frequency(subsets))
    said = {
        "ss_dataset_dirs": _json(dataset_dirs(subsets, is_reg=False)),
        "ss_reg_dataset_dirs": _json(dataset_dirs(subsets, is_reg=True)),
        "ss_tag_frequency": frequency,
    }
    return said | ({"ss_tag_frequency_left_out": str(left_out)} if left_out else {})


def _network_args(facts: RunFacts) -> dict[str, str]:
    said = {key: _without_folder(value) for key, value in facts.network_args.items()}
    return {"ss_network_args": _json(said)} if said else {}


def _without_folder(value: object) -> object:
    """Return the base name of an absolute path; any other text (a pattern has slashes too) as it
    is.
    """
    return base_name(value) if isinstance(value, str) and _ABSOLUTE.match(value) else value


def _files(facts: RunFacts) -> dict[str, str]:
    """Return the names and hashes of the base model and of a VAE of its own."""
    said = {
        "ss_sd_model_name": base_name(facts.base_model.path),
        "ss_sd_model_hash": facts.base_model.short_hash,
        "ss_new_sd_model_hash": facts.base_model.full_hash,
    }
    if facts.vae:
        said |= {
            "ss_vae_name": base_name(facts.vae.path),
            "ss_vae_hash": facts.vae.short_hash,
            "ss_new_vae_hash": facts.vae.full_hash,
        }
    return {key: text for key, text in said.items() if text}


def _named(subsets: Iterable[SubsetFacts]) -> list[tuple[str, SubsetFacts]]:
    """Give each folder its base name; a second folder of one name is numbered, so that none is
    lost.
    """
    named: dict[str, SubsetFacts] = {}
    for subset in subsets:
        name = base_name(subset.folder)
        numbered = (f"{name} ({i})" for i in count(2))
        named[
            name if name not in named else next(free for free in numbered if free not in named)
        ] = subset
    return list(named.items())


def _header_bytes(text: str) -> int:
    """Return the bytes of a text in the header, which is JSON itself: quotes and backslashes are
    escaped once more.
    """
    return len(_json(text))


def _json(value: object) -> str:
    return json.dumps(value)
