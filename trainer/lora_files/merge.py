"""Merge LoRAs: the exact weighted sum of their changes, cut to a rank, or by TIES or DARE.

Concatenation needs no multiplication: sum c_i up_i down_i is one product of the factors side by
side. TIES (arXiv:2306.01708) and DARE (arXiv:2311.03099) work on the changes themselves, not on the
factors, whose product they would not merge.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import display
from trainer.lora_files import algebra, layer_names
from trainer.lora_files.algebra import Svd
from trainer.lora_files.block_weights import BlockWeights
from trainer.lora_files.convert import require_complete
from trainer.lora_files.layer_names import LayerName
from trainer.lora_files.lora_file import ADAPTER_METADATA, BIAS, NORM_BIAS, LoraFile, LoraLayer
from trainer.lora_files.low_rank import LowRank
from trainer.lora_files.new_lora import NewLayer, NewNorm, WrittenFormat, flat_shape, model_hash
from trainer.lora_files.precision import Array

MergeMethod = Literal["concat", "svd", "ties", "dare"]
_TAGS: Final = "ss_tag_frequency"
_TRIGGERS: Final = "modelspec.trigger_phrase"
# Made new for the merged file.
_OWN_KEYS: Final = (
    "sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256", "modelspec.thumbnail",
    "ss_training_comment", ADAPTER_METADATA, _TAGS, _TRIGGERS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MergeSource:
    """A LoRA to merge, with its weight."""

    lora: LoraFile
    weight: float

    @property
    def title(self) -> str:
        return f"{self.lora.path.stem}:{self.weight:g}"


@dataclass(frozen=True, slots=True)
class WeightedLayer:
    """A layer of one file. weight: of the file, times that of the block; source: its number."""

    layer: LoraLayer
    weight: float
    source: int


@dataclass(frozen=True, slots=True)
class MergedLayer:
    """What became of a layer. ranks: of the sources; norm: of the whole change; kept: the share of
    it that its rank keeps; kept_at: the same at the rank that the report asks about.
    """

    key: str
    ranks: tuple[int, ...]
    rank: int
    norm: float
    kept: float
    kept_at: float


def split_weight(text: str) -> tuple[Path, float]:
    """Return the file and the weight of `FILE:WEIGHT`; 1 without one."""
    name, colon, weight = text.rpartition(":")
    if not (colon and name) or os.path.lexists(text):
        return Path(text), 1.0
    try:
        value = float(weight)
    except ValueError:
        # C:\x.safetensors has a colon too; behind the name of a LoRA a weight was meant.
        if not name.lower().endswith(".safetensors"):
            return Path(text), 1.0
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(
            f"the weight of {display(text)} is not a number", hint=f"e.g. {display(name)}:0.8"
        )
    return Path(name), value


def require_mergeable(sources: Sequence[MergeSource], *, products: bool, into_lora: bool) -> None:
    """Raise for files that cannot be merged. products: other methods than LoRA are multiplied out,
    so they can. into_lora: the result is a LoRA, which has no changes of biases but those of norms.
    """
    first = sources[0].lora
    for source in sources:
        lora = source.lora
        require_complete(lora)
        if lora.family != first.family or lora.family_title != first.family_title:
            raise InputError(
                f"{display(lora.path)} is of {lora.family_title}, {display(first.path)} of "
                f"{first.family_title}",
                hint="merge LoRAs of one family",
            )
        if lora.transformer and lora.format != first.format:
            raise InputError(
                f"{display(lora.path)} has {lora.format} keys, {display(first.path)} "
                f"{first.format} keys, which divide the layers differently",
                hint=f"convert one first: dsk lora convert --to {first.format}",
            )
        if lora.others:
            raise InputError(
                f"{display(lora.path)} has tensors of no layer, such as {display(lora.others[0])}",
                hint="dsk lora check lists them",
            )
        for layer in lora.layers:
            if layer.is_dora:
                raise InputError(
                    f"{display(lora.path)} is a DoRA, whose change depends on the base and is not "
                    "a sum",
                    hint="use it beside the others, not merged",
                )
            if into_lora and layer.method != "norm" and _changes_vector(layer):
                raise InputError(
                    f"{display(lora.path)}: {display(layer.key)} changes a bias or another vector, "
                    "which no plain LoRA can hold",
                    hint="merge it into a checkpoint: --into",
                )
            if layer.method not in ("lora", "norm") and not products:
                raise InputError(
                    f"{display(lora.path)} is not a plain LoRA ({display(layer.key)} is "
                    f"{layer.method})",
                    hint="dsk lora resize --as-lora makes a plain one of it, or --how svd --rank N",
                )


def _changes_vector(layer: LoraLayer) -> bool:
    """Tell whether a layer changes a bias, or a weight that is not a matrix."""
    whole = layer.tensors.get("diff")
    return BIAS in layer.tensors or (whole is not None and len(whole.shape) < 2)


def gather(
    sources: Sequence[MergeSource], weights: BlockWeights
) -> dict[LayerName, list[WeightedLayer]]:
    """Return the layers of all files by name, without those of weight 0. Raises InputError where
    the sizes differ.
    """
    gathered: dict[LayerName, list[WeightedLayer]] = {}
    for n, source in enumerate(sources):
        for layer in source.lora.layers:
            weight = source.weight * weights.of(layer.name)
            if weight:
                gathered.setdefault(layer.name, []).append(WeightedLayer(layer, weight, n))
    if not gathered:
        raise ConfigError("every weight is 0: nothing is left to merge", hint="give other weights")
    return dict(sorted(gathered.items()))


def merge_layer(
    members: Sequence[WeightedLayer],
    key: str,
    how: MergeMethod,
    *,
    rank: int | None,
    density: float,
    seed: int,
    report_rank: int,
) -> tuple[NewLayer | NewNorm, MergedLayer]:
    """Merge one layer. report_rank: for which the share of the norm is reported that it keeps."""
    name = members[0].layer.name
    if any(member.layer.method == "norm" for member in members):
        return _merge_norm(members, key, how, density, seed)
    if how == "concat":
        factors = concatenated(members)
        values, kept = algebra.singular_values(factors), 1.0
    else:
        decomposed = _decomposed(members, how, density, seed)
        values = decomposed.values
        factors = algebra.truncated(decomposed, min(rank or len(values), len(values)))
        kept = algebra.energy_kept(values, factors.rank)
    norm = float(np.linalg.norm(values))
    new = NewLayer(key, name, _shape(members, name), factors, float(factors.rank))
    kept_at = algebra.energy_kept(values, report_rank)
    ranks = tuple(m.layer.rank for m in members)
    return new, MergedLayer(key, ranks, factors.rank, norm, kept, kept_at)


def _merge_norm(
    members: Sequence[WeightedLayer], key: str, how: MergeMethod, density: float, seed: int
) -> tuple[NewNorm, MergedLayer]:
    """Merge the changes of a norm: their exact sum, or by TIES or DARE."""
    other = next((m.layer for m in members if m.layer.method != "norm"), None)
    if other is not None:
        raise InputError(
            f"{display(other.key)} of {display(other.file.path)} is {other.method}, and another "
            "file changes it as a norm",
            hint="merge them into a checkpoint: --into",
        )
    if how == "ties":
        matrix = by_ties(members, density, _of_norm)
    elif how == "dare":
        matrix = by_dare(members, density, seed, _of_norm)
    else:
        matrix = weighted_sum(members, _of_norm)
    has_bias = any(NORM_BIAS in member.layer.tensors for member in members)
    new = NewNorm(key, matrix[:, 0], matrix[:, 1] if has_bias else None)
    norm = float(np.linalg.norm(matrix))
    return new, MergedLayer(key, (0,) * len(members), 0, norm, 1.0, 1.0)


def _of_norm(layer: LoraLayer) -> Array:
    """Return the change of a norm's weight and bias: (channels, 2)."""
    weight, bias = algebra.delta(layer), algebra.bias(layer)
    whole: Array = np.column_stack([weight, np.zeros(len(weight)) if bias is None else bias])
    return whole


def _decomposed(
    members: Sequence[WeightedLayer], how: MergeMethod, density: float, seed: int
) -> Svd:
    """Decompose a merged layer: through the factors where it is the sum of LoRA layers."""
    if how == "svd" and all(member.layer.method == "lora" for member in members):
        return algebra.svd(concatenated(members))
    if how == "ties":
        return algebra.svd_of_matrix(by_ties(members, density))
    if how == "dare":
        return algebra.svd_of_matrix(by_dare(members, density, seed))
    return algebra.svd_of_matrix(weighted_sum(members))


def concatenated(members: Sequence[WeightedLayer]) -> LowRank:
    """Return the exact weighted sum of LoRA layers as one product, with alpha = rank."""
    ups, downs = [], []
    for member in members:
        factors = algebra.low_rank(member.layer)
        algebra.require_finite(member.layer, factors.up, factors.down)
        share = member.weight * factors.scale
        root = math.sqrt(abs(share))
        ups.append(factors.up * math.copysign(root, share))
        downs.append(factors.down * root)
    _require_same_size(members, [(len(u), d.shape[1]) for u, d in zip(ups, downs, strict=True)])
    return LowRank(np.concatenate(ups, axis=1), np.concatenate(downs))


def _deltas(members: Sequence[WeightedLayer], change: Callable[[LoraLayer], Array]) -> list[Array]:
    deltas = []
    for member in members:
        delta = change(member.layer)
        algebra.require_finite(member.layer, delta)
        deltas.append(delta)
    _require_same_size(members, [delta.shape for delta in deltas])
    return deltas


def weighted_sum(
    members: Sequence[WeightedLayer], change: Callable[[LoraLayer], Array] = algebra.delta
) -> Array:
    """Return the exact weighted sum of layers of any method: (out, in * kernel). change: of a
    layer.
    """
    parts = zip(_deltas(members, change), members, strict=True)
    total: Array = sum((delta * member.weight for delta, member in parts), np.zeros(()))
    return total


def weighted_bias(members: Sequence[WeightedLayer]) -> Array:
    """Return the exact weighted sum of the changes of a layer's bias: (out,)."""
    total = np.zeros(())
    for member in members:
        bias = algebra.bias(member.layer)
        if bias is not None:
            algebra.require_finite(member.layer, bias)
            total = total + bias * member.weight
    return total


def by_ties(
    members: Sequence[WeightedLayer],
    density: float,
    change: Callable[[LoraLayer], Array] = algebra.delta,
) -> Array:
    """Merge by TIES: of each change the largest entries, of these the mean of those whose sign is
    that of the weighted sum.
    """
    return ties(_deltas(members, change), [member.weight for member in members], density)


def ties(deltas: Sequence[Array], weights: Sequence[float], density: float) -> Array:
    """Return the TIES merge of matrices; zeros do not count in the mean."""
    trimmed = np.stack(
        [_largest(delta, density) * w for delta, w in zip(deltas, weights, strict=True)]
    )
    sign = np.where(trimmed.sum(axis=0) >= 0, 1.0, -1.0)
    agreeing = np.where(trimmed * sign > 0, trimmed, 0.0)
    count = np.maximum((agreeing != 0).sum(axis=0), 1)
    merged: Array = agreeing.sum(axis=0) / count
    return merged


def _largest(delta: Array, density: float) -> Array:
    """Return a matrix with its floor(density * n) largest entries, by absolute value."""
    flat = delta.ravel()
    kept = np.argsort(-np.abs(flat), kind="stable")[: math.floor(density * flat.size)]
    result = np.zeros_like(flat)
    result[kept] = flat[kept]
    return result.reshape(delta.shape)


def by_dare(
    members: Sequence[WeightedLayer],
    density: float,
    seed: int,
    change: Callable[[LoraLayer], Array] = algebra.delta,
) -> Array:
    """Merge by DARE: each entry of a change is kept with probability `density`, and divided by it.

    Every layer of every file has its own generator, so that it does not depend on the others.
    """
    deltas = _deltas(members, change)
    total = np.zeros_like(deltas[0])
    for delta, member in zip(deltas, members, strict=True):
        name = member.layer.name
        text = json.dumps([seed, name.part, name.path, member.source])
        digest = hashlib.sha256(text.encode()).digest()
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "big")))
        kept = generator.random(delta.shape) < density
        total += np.where(kept, delta / density, 0.0) * member.weight
    return total


def _require_same_size(members: Sequence[WeightedLayer], sizes: Sequence[tuple[int, ...]]) -> None:
    for member, size in zip(members, sizes, strict=True):
        if size != sizes[0]:
            first, other = members[0].layer, member.layer
            raise InputError(
                f"{display(first.key)} is {sizes[0][0]} x {sizes[0][1]} in "
                f"{display(first.file.path)} and {size[0]} x {size[1]} in "
                f"{display(other.file.path)}",
                hint="merge LoRAs of one model",
            )


def _shape(members: Sequence[WeightedLayer], name: LayerName) -> tuple[int, ...]:
    for member in members:
        if member.layer.method == "lora":
            return member.layer.shape
    rows, columns = algebra.delta(members[0].layer).shape
    return flat_shape(name, rows, columns)


def key_of(
    name: LayerName, members: Sequence[WeightedLayer], lora: LoraFile, form: WrittenFormat
) -> str:
    """Return the name of a merged layer in its file."""
    if not name.is_known or lora.family is None:
        return members[0].layer.key
    return (
        layer_names.diffusers(name) if form == "diffusers" else layer_names.kohya(name, lora.family)
    )


# ---- the header


def merged_metadata(sources: Sequence[MergeSource], how: str, title: str) -> dict[str, str]:
    """Return the header of a merged file: what the files agree on; what they do not is listed under
    each file's name.
    """
    headers = {_unique(n, sources): s.lora.metadata for n, s in enumerate(sources)}
    keys = sorted({key for header in headers.values() for key in header} - set(_OWN_KEYS))
    merged: dict[str, str] = {}
    differing: dict[str, dict[str, str]] = {}
    for key in keys:
        values = {name: header[key] for name, header in headers.items() if key in header}
        if len(set(values.values())) == 1:
            merged[key] = next(iter(values.values()))
        else:
            for name, value in values.items():
                differing.setdefault(name, {})[key] = value
    frequency = {
        f"{name}/{folder}": tags
        for name, header in headers.items()
        for folder, tags in _tags(header).items()
    }
    if frequency:
        merged[_TAGS] = json.dumps(frequency)
    triggers = dict.fromkeys(h[_TRIGGERS] for h in headers.values() if h.get(_TRIGGERS))
    if triggers:
        merged[_TRIGGERS] = ", ".join(triggers)
    if differing:
        merged["dsk_merged_metadata"] = json.dumps(differing)
    names = " + ".join(source.title for source in sources)
    return {
        **merged,
        "ss_output_name": title,
        "modelspec.title": title,
        "ss_training_comment": f"merged by {how}: {names}",
    }


def source_hashes(sources: Sequence[MergeSource]) -> str:
    """Return the hashes of the merged files, as a header holds them: FILE:WEIGHT -> hash."""
    hashes = {
        f"{_unique(n, sources)}:{source.weight:g}": model_hash(source.lora)
        for n, source in enumerate(sources)
    }
    return json.dumps(hashes)


def _unique(number: int, sources: Sequence[MergeSource]) -> str:
    stems = [source.lora.path.stem for source in sources]
    stem = stems[number]
    return stem if stems.count(stem) == 1 else f"{stem} ({stems[:number].count(stem) + 1})"


def _tags(header: Mapping[str, str]) -> Mapping[str, object]:
    try:
        table = json.loads(header.get(_TAGS, "{}"))
    except (ValueError, RecursionError):
        return {}
    return table if isinstance(table, dict) else {}


def merge(
    gathered: Mapping[LayerName, Sequence[WeightedLayer]],
    sources: Sequence[MergeSource],
    how: MergeMethod,
    form: WrittenFormat,
    *,
    rank: int | None,
    density: float,
    seed: int,
    report_rank: int,
    advance: Callable[[], None] = lambda: None,
) -> Iterator[tuple[NewLayer | NewNorm, MergedLayer]]:
    """Yield every merged layer with its report."""
    for name, members in gathered.items():
        key = key_of(name, members, sources[0].lora, form)
        yield merge_layer(
            members, key, how, rank=rank, density=density, seed=seed, report_rank=report_rank
        )
        advance()
