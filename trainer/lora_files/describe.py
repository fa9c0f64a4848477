"""What a LoRA file says of itself, and what its tensors say: family, ranks, precision, training,
tags, hashes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from trainer.lora_files import tensor_file
from trainer.lora_files.lora_file import ALPHA, LoraFile
from trainer.lora_files.precision import TITLES

HashState = Literal["true", "stale", "absent"]
_PART_TITLES: Final = {
    "unet": "UNet", "text_encoder": "text encoder", "text_encoder_2": "second text encoder",
    "transformer": "transformer", "": "other",
}  # fmt: skip
_MOST_TAGS: Final = 20
# What people look for first in the header, under the words that are printed.
_TRAINING: Final[Mapping[str, str]] = {
    "base model": "ss_sd_model_name",
    "base hash": "ss_sd_model_hash",
    "base version": "ss_base_model_version",
    "network": "ss_network_module",
    "network dim": "ss_network_dim",
    "network alpha": "ss_network_alpha",
    "network args": "ss_network_args",
    "resolution": "ss_resolution",
    "epochs": "ss_num_epochs",
    "epoch": "ss_epoch",
    "steps": "ss_steps",
    "images": "ss_num_train_images",
    "batch size": "ss_total_batch_size",
    "UNet rate": "ss_unet_lr",
    "text encoder rate": "ss_text_encoder_lr",
    "optimizer": "ss_optimizer",
    "clip skip": "ss_clip_skip",
    "seed": "ss_seed",
    "comment": "ss_training_comment",
    "title": "modelspec.title",
    "author": "modelspec.author",
    "license": "modelspec.license",
    "date": "modelspec.date",
}


@dataclass(frozen=True, slots=True)
class LoraDescription:
    """A LoRA file in numbers and words.

    methods, parts, precisions: name -> layers, layers, parameters. ranks: rank -> layers, 0 for
    layers without one. alphas: alpha / rank -> layers. training: from the header, in the words that
    are printed. tags: the most frequent tags of the captions -> images. model_hash: sd-scripts',
    computed again; hash_state: whether the header has that one.
    """

    path: Path
    size: int
    family: str
    format: str
    layers: int
    parameters: int
    methods: Mapping[str, int]
    dora: int
    parts: Mapping[str, int]
    precisions: Mapping[str, int]
    ranks: Mapping[int, int]
    alphas: Mapping[str, int]
    other_keys: int
    training: Mapping[str, str]
    tags: Mapping[str, int]
    model_hash: str
    legacy_hash: str
    hash_state: HashState
    metadata: Mapping[str, str] = field(default_factory=dict)


def describe(lora: LoraFile) -> LoraDescription:
    """Read all that `dsk lora info` shows; every byte of the file is read once, for its hash."""
    file, metadata = lora.file, lora.metadata
    precisions: Counter[str] = Counter()
    for layer in lora.layers:
        for name, entry in layer.tensors.items():
            if name != ALPHA:
                precisions[TITLES.get(entry.dtype, entry.dtype)] += entry.size
    ranked = [layer for layer in lora.layers if layer.method not in ("incomplete", "other", "norm")]
    model_hash, legacy_hash = tensor_file.sshs_hashes(tensor_file.copied(file), metadata)
    return LoraDescription(
        path=lora.path,
        size=file.size,
        family=lora.family_title,
        format=lora.format,
        layers=len(lora.layers),
        parameters=sum(precisions.values()),
        methods=_counted(_method_title(layer.method, layer.has_kernel) for layer in lora.layers),
        dora=sum(layer.is_dora for layer in lora.layers),
        parts=_counted(_PART_TITLES[layer.name.part] for layer in lora.layers),
        precisions=dict(precisions.most_common()),
        ranks=dict(sorted(Counter(layer.rank for layer in ranked).items())),
        alphas=_counted(f"{layer.scale:.4g}" for layer in ranked if layer.rank),
        other_keys=len(lora.others),
        training={
            title.replace("UNet", "transformer") if lora.transformer else title: metadata[key]
            for title, key in _TRAINING.items()
            if metadata.get(key, "None") != "None"
        },
        tags=tags(metadata),
        model_hash=model_hash,
        legacy_hash=legacy_hash,
        hash_state=hash_state(metadata, model_hash),
        metadata=dict(sorted(metadata.items())),
    )


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _method_title(method: str, has_kernel: bool) -> str:
    titles = {"lora": "LoRA", "loha": "LoHa", "lokr": "LoKr", "full": "full matrix"}
    return "LoCon" if has_kernel else titles.get(method, method)


def hash_state(metadata: Mapping[str, str], model_hash: str) -> HashState:
    """Tell whether the header's hash of the tensors is that of the tensors."""
    stated = metadata.get("sshs_model_hash")
    if not stated:
        return "absent"
    return "true" if stated == model_hash else "stale"


def tags(metadata: Mapping[str, str], most: int = _MOST_TAGS) -> dict[str, int]:
    """Return the most frequent tags of the captions, over all folders: tag -> images."""
    try:
        folders = json.loads(metadata.get("ss_tag_frequency", "{}"))
    except (ValueError, RecursionError):
        return {}
    counted: Counter[str] = Counter()
    for frequency in folders.values() if isinstance(folders, dict) else ():
        for tag, number in frequency.items() if isinstance(frequency, dict) else ():
            if type(number) is int:
                counted[tag.strip()] += number
    return dict(counted.most_common(most))
