"""A LoRA that is about to be written: its layers, the tensors of a format, the header."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

from datasetkit.core.errors import InputError, ModelFileError
from datasetkit.core.files import display
from trainer.lora_files import tensor_file
from trainer.lora_files.layer_names import LayerName
from trainer.lora_files.lora_file import ADAPTER_METADATA, NORM_BIAS, NORM_WEIGHT, LoraFile
from trainer.lora_files.low_rank import LowRank
from trainer.lora_files.precision import PRECISIONS, Array, encode
from trainer.lora_files.tensor_file import NewTensor

WrittenFormat = Literal["kohya", "diffusers", "comfy"]
DYNAMIC: Final = "Dynamic"
# Kinds of layers whose kernels are 3x3, for files that have flattened them.
_KERNELS: Final = ("conv1", "conv2", "downsampler", "upsampler", "conv_in", "conv_out")


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """What the header has to know of a layer."""

    name: LayerName
    rank: int
    alpha: float
    has_kernel: bool


@dataclass(frozen=True, slots=True)
class NewLayer:
    """A layer to write. key: its name in the file; shape: of its weight, (out, in) or (out, in, k,
    k); the factors' own scale is 1, and alpha / rank is that of the file.
    """

    key: str
    name: LayerName
    shape: tuple[int, ...]
    factors: LowRank
    alpha: float

    @property
    def rank(self) -> int:
        return self.factors.rank

    @property
    def is_folded(self) -> bool:
        """Tell whether the file has alpha / rank in up: of transformers, in formats without
        alpha.
        """
        return self.name.part == "transformer"

    @property
    def summary(self) -> LayerSummary:
        has_kernel = len(self.shape) > 2 and self.shape[2] * self.shape[-1] > 1
        return LayerSummary(self.name, self.rank, self.alpha, has_kernel)

    def tensors(self, form: WrittenFormat, dtype: str) -> list[NewTensor]:
        """Return the layer's tensors in a format. Raises InputError where fp16 is too small."""
        if form != "kohya" and self.alpha != self.rank and self.is_folded:
            up = self.factors.up * (self.alpha / self.rank)
            factors = LowRank(up, self.factors.down)
            return replace(self, factors=factors, alpha=float(self.rank)).tensors(form, dtype)
        tail = (1,) * (len(self.shape) - 2)
        down = self.factors.down.reshape(self.rank, *self.shape[1:])
        up = self.factors.up.reshape(self.shape[0], self.rank, *tail)
        if form != "kohya":
            names = (f"{self.key}.lora_A.weight", f"{self.key}.lora_B.weight")
        else:
            names = (f"{self.key}.lora_down.weight", f"{self.key}.lora_up.weight")
        tensors = [encoded(name, x, dtype) for name, x in zip(names, (down, up), strict=True)]
        if form == "kohya":
            # In float32 in any file: bf16 makes 257 of 256.
            tensors.append(encoded(f"{self.key}.alpha", np.asarray(self.alpha), "F32"))
        return tensors


@dataclass(frozen=True, slots=True)
class NewNorm:
    """The change of a norm to write. key: its name in the file; weight, bias: (channels,)."""

    key: str
    weight: Array
    bias: Array | None

    def tensors(self, dtype: str) -> list[NewTensor]:
        """Return the norm's tensors, which every format names alike. Raises InputError where fp16
        is too small.
        """
        tensors = [encoded(f"{self.key}.{NORM_WEIGHT}", self.weight, dtype)]
        if self.bias is not None:
            tensors.append(encoded(f"{self.key}.{NORM_BIAS}", self.bias, dtype))
        return tensors


def encoded(name: str, values: Array, dtype: str) -> NewTensor:
    """Return a tensor with its bytes. Raises ModelFileError for numbers that are not finite,
    InputError for those that the type cannot hold.
    """
    largest = float(np.abs(values).max(initial=0.0))
    if not math.isfinite(largest):
        raise ModelFileError(
            f"{display(name)} has numbers that are not finite",
            hint="use another file as the source",
        )
    limit = {"F16": 65504.0, "F32": 3.4028235e38, "BF16": 3.3895314e38}.get(dtype, np.inf)
    if not largest <= limit:
        raise InputError(
            f"{display(name)} has {largest:.3g}, which the precision cannot hold",
            hint="give --precision bf16 or float",
        )
    data = encode(values, dtype)
    return NewTensor(name, dtype, values.shape, lambda: [data])


def flat_shape(name: LayerName, rows: int, columns: int) -> tuple[int, ...]:
    """Return the shape of a weight that a file has flattened: 3x3 where the kind of layer says
    so.
    """
    if name.kind in _KERNELS and columns % 9 == 0:
        return (rows, columns // 9, 3, 3)
    return (rows, columns)


def output_dtype(precision: str, source: str, path: Path) -> str:
    """Return the type to write. precision: `same` takes the source's. Raises InputError where the
    source has one that is not written.
    """
    if precision != "same":
        return PRECISIONS[precision]
    if source not in ("F64", "F32", "F16", "BF16"):
        raise InputError(
            f"{display(path)} is stored as {display(source)}, which is not written",
            hint="give --precision bf16",
        )
    return source


# ---- the header


def with_ranks(metadata: Mapping[str, str], layers: Sequence[LayerSummary]) -> dict[str, str]:
    """Return the header with the ranks and alphas of new layers: a number where all are equal."""
    header = dict(metadata)
    plain = [layer for layer in layers if not layer.has_kernel] or layers
    kernels = [layer for layer in layers if layer.has_kernel]
    header["ss_network_dim"] = _uniform(str(layer.rank) for layer in plain)
    header["ss_network_alpha"] = _uniform(f"{layer.alpha:.8g}" for layer in plain)
    arguments = _table(header.get("ss_network_args", ""))
    if "conv_dim" in arguments and kernels:
        arguments["conv_dim"] = _uniform(str(layer.rank) for layer in kernels)
        arguments["conv_alpha"] = _uniform(f"{layer.alpha:.8g}" for layer in kernels)
        header["ss_network_args"] = json.dumps(arguments)
    return header


def _uniform(values: Iterable[str]) -> str:
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else DYNAMIC


def _table(text: str) -> dict[str, object]:
    try:
        table = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return table if isinstance(table, dict) else {}


def with_comment(metadata: Mapping[str, str], comment: str) -> dict[str, str]:
    """Return the header with a comment behind the one that it has."""
    before = metadata.get("ss_training_comment", "")
    joined = comment if before in ("", "None") else f"{before}; {comment}"
    return {**metadata, "ss_training_comment": joined}


def with_hashes(metadata: Mapping[str, str], tensors: Sequence[NewTensor]) -> dict[str, str]:
    """Return the header with sd-scripts' hashes of these tensors."""
    model_hash, legacy_hash = tensor_file.sshs_hashes(tensors, metadata)
    return {**metadata, "sshs_model_hash": model_hash, "sshs_legacy_hash": legacy_hash}


def with_adapter(metadata: Mapping[str, str], layers: Sequence[LayerSummary]) -> dict[str, str]:
    """Return the header with the entry from which diffusers restores ranks and alphas; what else
    the entry held stays.
    """
    facts = _table(metadata.get(ADAPTER_METADATA, ""))
    for part in sorted({_part_of(layer.name) for layer in layers}):
        # peft matches a name with every path that ends in it; without `text_model` it matches in
        # every version of transformers.
        members = {
            layer.name.path.removeprefix(f"{part}.").removeprefix("text_model."): layer
            for layer in layers
            if _part_of(layer.name) == part
        }
        counts = Counter((layer.rank, layer.alpha) for layer in members.values())
        rank, alpha = counts.most_common(1)[0][0]
        facts |= {
            f"{part}.r": rank,
            f"{part}.lora_alpha": alpha,
            f"{part}.target_modules": sorted(members),
            f"{part}.init_lora_weights": True,
            f"{part}.use_rslora": False,
            f"{part}.rank_pattern": {p: m.rank for p, m in members.items() if m.rank != rank},
            f"{part}.alpha_pattern": {p: m.alpha for p, m in members.items() if m.alpha != alpha},
        }
    text = json.dumps(facts, indent=2, sort_keys=True)
    return {**metadata, "format": "pt", ADAPTER_METADATA: text}


def _part_of(name: LayerName) -> str:
    """Return the component of a pipeline that a layer is of: `unet`; for a family that is not
    supported the beginning of its name, such as `transformer`.
    """
    return name.part or name.path.partition(".")[0]


def model_hash(lora: LoraFile) -> str:
    """Return sd-scripts' hash of a file's tensors, as they are now."""
    return tensor_file.sshs_hashes(tensor_file.copied(lora.file), lora.metadata)[0]


def finished(
    layers: Iterable[NewLayer | NewNorm],
    kept: Iterable[NewTensor],
    metadata: Mapping[str, str],
    form: WrittenFormat,
    dtype: str,
) -> tuple[list[NewTensor], dict[str, str]]:
    """Return the tensors of a file in their order, and its header with ranks and hashes. Layers are
    encoded one by one: in float64 they take four times their size. kept: further tensors, as they
    are.
    """
    tensors, summaries = list(kept), []
    for layer in layers:
        if isinstance(layer, NewNorm):
            tensors += layer.tensors(dtype)
            continue
        tensors += layer.tensors(form, dtype)
        folded = form != "kohya" and layer.is_folded
        summaries.append(
            replace(layer.summary, alpha=float(layer.rank)) if folded else layer.summary
        )
    tensors = tensor_file.sort_tensors(tensors)
    if form == "comfy":
        stated = any(key.startswith("ss_") for key in metadata)
        header = with_ranks(metadata, summaries) if stated else dict(metadata)
        return tensors, with_hashes(header, tensors) if stated else header
    if form == "diffusers":
        header = with_adapter(metadata, summaries)
        stated = any(key.startswith("ss_") for key in metadata)
        return tensors, with_hashes(with_ranks(header, summaries), tensors) if stated else header
    return tensors, with_hashes(with_ranks(metadata, summaries), tensors)
