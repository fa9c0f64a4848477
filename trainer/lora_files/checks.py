"""What may be wrong with a LoRA file: one small function for each check."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Final, Literal

from datasetkit.core.files import display
from datasetkit.core.words import counted
from trainer.lora_files import tensor_file
from trainer.lora_files.base_weights import BaseWeights
from trainer.lora_files.describe import hash_state
from trainer.lora_files.layer_names import (
    LayerName,
    full_set,
    is_convolutional,
    norms,
    text_layer,
)
from trainer.lora_files.lora_file import ADAPTER_METADATA, LoraFile
from trainer.lora_files.measure import LayerMeasure

Level = Literal["error", "warning", "note"]
# A layer that changes this many times as much as the median of its kind probably diverged.
_OUTLIER: Final = 10
# A share of exact zeros in fp16 above this is underflow, not chance.
_ZEROS: Final = 0.01
_PARTS: Final = {
    "unet": "UNet", "text_encoder": "text encoder", "text_encoder_2": "second text encoder",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoraFinding:
    """A finding of a check: one line for people. keys: the layers that it is about."""

    level: Level
    check: str
    message: str
    keys: tuple[str, ...] = ()


def find_all(
    lora: LoraFile, measures: Sequence[LayerMeasure], base: BaseWeights | None = None
) -> tuple[LoraFinding, ...]:
    """Run every check; errors come first, notes last."""
    findings = [
        *_finite(measures),
        *_complete(lora),
        *_dead(lora, measures),
        *_underflow(measures),
        *_outliers(measures),
        *_family(lora, base),
        *_sizes(measures, base),
        *_header(lora),
        *_strength(measures, base),
        *_rank_use(measures),
        *_text_against_unet(measures),
    ]
    order = ("error", "warning", "note")
    return tuple(sorted(findings, key=lambda f: order.index(f.level)))


def _layers(keys: Iterable[str]) -> tuple[str, str]:
    """Return `3 layers` and the first name."""
    names = list(keys)
    return counted(len(names), "layer"), display(names[0])


def _finite(measures: Sequence[LayerMeasure]) -> Iterator[LoraFinding]:
    broken = [m for m in measures if m.infinite]
    if broken:
        number, _ = _layers(m.key for m in broken)
        yield LoraFinding(
            "error",
            "finite",
            f"{number} with numbers that are not finite: {display(broken[0].infinite)}",
            tuple(m.key for m in broken),
        )


def _complete(lora: LoraFile) -> Iterator[LoraFinding]:
    incomplete = [layer for layer in lora.layers if layer.method == "incomplete"]
    if incomplete:
        number, first = _layers(layer.key for layer in incomplete)
        yield LoraFinding(
            "error",
            "complete",
            f"{number} incomplete: of {first} {incomplete[0].problem}",
            tuple(layer.key for layer in incomplete),
        )
    if others := [layer.key for layer in lora.layers if layer.method == "other"]:
        number, first = _layers(others)
        message = f"{number} of a method that is not measured, such as {first}"
        yield LoraFinding("note", "complete", message, tuple(others))
    if lora.others:
        number = counted(len(lora.others), "tensor")
        message = f"{number} of no layer, such as {display(lora.others[0])}"
        yield LoraFinding("warning", "complete", message, lora.others)
    silent = [layer.key for layer in lora.layers if layer.rank and layer.alpha is None]
    if silent:
        number, _ = _layers(silent)
        message = f"{number} without alpha: programs take the rank for it"
        yield LoraFinding("note", "complete", message, tuple(silent))


# ---- dead layers


def _dead(lora: LoraFile, measures: Sequence[LayerMeasure]) -> Iterator[LoraFinding]:
    dead = [m for m in measures if m.is_dead]
    if not dead:
        return
    expected, reason = _behind_clip_skip(lora, dead)
    if expected:
        number, _ = _layers(m.key for m in expected)
        keys = tuple(m.key for m in expected)
        yield LoraFinding("note", "dead", f"{number} without effect, as expected: {reason}", keys)
    others = [m for m in dead if m not in expected]
    if not others:
        return
    number, first = _layers(m.key for m in others)
    factors = sorted({m.zero_factor for m in others if m.zero_factor})
    message = f"{number} of {len(measures)} without effect"
    message += f" ({', '.join(factors)} is zero)" if factors else ""
    message += f", such as {first}"
    skips = _clip_skip_that_explains(lora, others)
    if skips:
        message += f"; clip skip {skips} would explain it, but the header does not state it"
    level: Level = "error" if len(dead) * 2 > len(measures) else "warning"
    yield LoraFinding(level, "dead", message, tuple(m.key for m in others))


def _depth(lora: LoraFile, part: str) -> int:
    """Return the number of layers of a text encoder, as far as the file shows it."""
    numbers = [text_layer(layer.name) for layer in lora.layers if layer.name.part == part]
    return max((n + 1 for n in numbers if n is not None), default=0)


def _behind_clip_skip(
    lora: LoraFile, dead: Sequence[LayerMeasure]
) -> tuple[list[LayerMeasure], str]:
    """Return the dead layers that no gradient can reach, and why."""
    depth = _depth(lora, "text_encoder")
    if lora.family == "sdxl":
        first, reason = depth - 1, "Stable Diffusion XL reads the layer before the last"
    elif lora.family is not None:
        stated = lora.metadata.get("ss_clip_skip", "")
        skip = int(stated) if re.fullmatch(r"\d{1,2}", stated) else 1
        first, reason = depth - skip + 1, f"they are behind clip skip {skip}"
    else:
        return [], ""
    expected = [m for m in dead if _text_number(m) >= first]
    numbers = sorted({_text_number(m) for m in expected})
    if not numbers:
        return [], ""
    shown = ", ".join(map(str, numbers))
    return expected, f"layer {shown} of the text encoder; {reason}"


def _text_number(measure: LayerMeasure) -> int:
    """Return the number of a layer of the first text encoder, -1 for others."""
    number = text_layer(measure.name) if measure.name.part == "text_encoder" else None
    return -1 if number is None else number


def _clip_skip_that_explains(lora: LoraFile, dead: Sequence[LayerMeasure]) -> int:
    """Return the clip skip of which exactly these layers would be dead, 0 for none."""
    if lora.family not in ("sd1", "sd2") or "ss_clip_skip" in lora.metadata:
        return 0
    depth = _depth(lora, "text_encoder")
    first = min(_text_number(m) for m in dead)
    behind = {layer.key for layer in lora.layers if (text_layer(layer.name) or -1) >= first}
    return depth - first + 1 if first >= 0 and behind == {m.key for m in dead} else 0


# ---- numbers


def _underflow(measures: Sequence[LayerMeasure]) -> Iterator[LoraFinding]:
    zeros, elements = sum(m.zeros for m in measures), sum(m.elements for m in measures)
    if elements and zeros / elements > _ZEROS:
        yield LoraFinding(
            "warning",
            "underflow",
            f"{zeros / elements:.1%} of the fp16 numbers are exactly 0: too small for fp16; save "
            "with save_precision = bf16 or float",
        )


def _outliers(measures: Sequence[LayerMeasure]) -> Iterator[LoraFinding]:
    kinds: defaultdict[tuple[str, str], list[LayerMeasure]] = defaultdict(list)
    for m in measures:
        if m.norm == m.norm and not m.is_dead:
            kinds[m.name.part, m.name.kind].append(m)
    outliers = [
        (m.norm / middle, m)
        for members in kinds.values()
        for middle in [median(m.norm for m in members)]
        for m in members
        if m.norm > _OUTLIER * middle
    ]
    if outliers:
        ratio, worst = max(outliers, key=lambda pair: pair[0])
        number, _ = _layers(m.key for _, m in outliers)
        yield LoraFinding(
            "warning",
            "outliers",
            f"{number} changing more than {_OUTLIER} times the median of the kind: "
            f"{display(worst.key)} {ratio:.0f} times",
            tuple(m.key for _, m in outliers),
        )


def _strength(measures: Sequence[LayerMeasure], base: BaseWeights | None) -> Iterator[LoraFinding]:
    shares = [m.relative for m in measures if m.relative and not m.is_dead]
    if base is not None and shares:
        yield LoraFinding(
            "note",
            "strength",
            f"the median layer changes {median(shares):.3g} of its weight, the most changed one "
            f"{max(shares):.3g}: numbers to compare runs by",
        )


def _rank_use(measures: Sequence[LayerMeasure]) -> Iterator[LoraFinding]:
    used = [m for m in measures if m.stable_rank is not None and m.entropy_rank is not None]
    if not used:
        return
    stable = [m.stable_rank or 0 for m in used]
    entropy = [m.entropy_rank or 0 for m in used]
    yield LoraFinding(
        "note",
        "rank use",
        f"stable rank {min(stable):.3g} to {max(stable):.3g}, median {median(stable):.3g}; entropy "
        f"rank {min(entropy):.3g} to {max(entropy):.3g}, median {median(entropy):.3g}; "
        f"dsk lora resize --fro 0.95 would keep rank {mean(m.kept or 1 for m in used):.3g} of "
        f"{mean(m.rank for m in used):.3g} on average",
    )


def _text_against_unet(measures: Sequence[LayerMeasure]) -> Iterator[LoraFinding]:
    changes: defaultdict[str, list[float]] = defaultdict(list)
    for m in measures:
        if m.norm == m.norm and not m.is_dead and m.method != "norm":
            changes[m.name.part].append(m.norm)
    if not changes["unet"]:
        return
    for part in ("text_encoder", "text_encoder_2"):
        if changes[part]:
            ratio = median(changes[part]) / median(changes["unet"])
            yield LoraFinding(
                "note",
                "text against UNet",
                f"the median norm of the {_PARTS[part]} is {ratio:.3g} times that of the UNet",
            )


# ---- names and header


def _family(lora: LoraFile, base: BaseWeights | None) -> Iterator[LoraFinding]:
    if lora.family is None:
        yield LoraFinding(
            "note",
            "family",
            f"family {lora.family_title}: names and layers are not compared with a model's",
        )
        return
    title = lora.family_title
    if unknown := [layer.key for layer in lora.layers if not layer.name.is_known]:
        number, first = _layers(unknown)
        message = f"{number} that {title} does not have, such as {first}"
        yield LoraFinding("warning", "family", message, tuple(unknown))
    names = {layer.name: layer.key for layer in lora.layers if layer.name.is_known}
    expected = full_set(lora.family)
    if base is not None:
        missing = [key for name, key in names.items() if name not in base.layers]
        if missing:
            number, first = _layers(missing)
            message = f"{number} that {display(base.path.name)} does not have, such as {first}"
            yield LoraFinding("warning", "family", message, tuple(missing))
    elif foreign := [
        key for name, key in names.items() if name not in _with_ends(expected) | norms(lora.family)
    ]:
        number, first = _layers(foreign)
        message = f"{number} that {title} does not have, such as {first}"
        yield LoraFinding("warning", "family", message, tuple(foreign))
    with_norms = {name.part for name in names if name in norms(lora.family)}
    trained_norms = {name for name in norms(lora.family) if name.part in with_norms}
    yield from _coverage(set(names), expected | trained_norms)


def _sizes(measures: Sequence[LayerMeasure], base: BaseWeights | None) -> Iterator[LoraFinding]:
    """Compare the sizes of the layers with the base model's: programs cannot load others."""
    if base is None:
        return
    others = [
        (m, m.size, base.layers[m.name].matrix_size)
        for m in measures
        if m.size is not None
        and m.name in base.layers
        and m.size != base.layers[m.name].matrix_size
    ]
    if others:
        number, first = _layers(m.key for m, _, _ in others)
        _, size, needed = others[0]
        yield LoraFinding(
            "error",
            "size",
            f"{number} of another size than in {display(base.path.name)}: {first} is "
            f"{size[0]} x {size[1]}, and there it is {needed[0]} x {needed[1]}",
            tuple(m.key for m, _, _ in others),
        )


def _with_ends(expected: frozenset[LayerName]) -> frozenset[LayerName]:
    """Add the layers outside of the blocks, which some trainers adapt."""
    outer = ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2")
    added = ("add_embedding.linear_1", "add_embedding.linear_2")
    return expected | {LayerName("unet", path) for path in (*outer, *added)}


def _coverage(names: set[LayerName], expected: frozenset[LayerName]) -> Iterator[LoraFinding]:
    """Count the layers of each part; name those that are missing where all others around them are
    there.
    """
    if not any(is_convolutional(name) for name in names):
        expected = frozenset(name for name in expected if not is_convolutional(name))
    counts = []
    for part, title in _PARTS.items():
        whole = {name for name in expected if name.part == part}
        if whole:
            counts.append(f"{title} {len(whole & names)} of {len(whole)}")
    yield LoraFinding("note", "family", f"layers: {', '.join(counts)}")
    units = {_unit(name) for name in names}
    kinds = {(name.part, name.kind) for name in names}
    gaps = sorted(
        name
        for name in expected - names
        if _unit(name) in units and (name.part, name.kind) in kinds
    )
    if gaps:
        number, first = _layers(f"{name.part}.{name.path}" for name in gaps)
        message = f"{number} missing beside others of the same block, such as {first}"
        yield LoraFinding("warning", "family", message)


def _unit(name: LayerName) -> tuple[str, str]:
    """Return the attention, feed-forward or residual layer that a layer is a part of."""
    return name.part, re.sub(r"\.(?:to_out\.0|net\.[02](?:\.proj)?|\w+)$", "", name.path)


def _header(lora: LoraFile) -> Iterator[LoraFinding]:
    stated = lora.metadata.get("sshs_model_hash")
    if not lora.metadata:
        yield LoraFinding("note", "metadata", "the header has no metadata")
    elif stated:
        actual, _ = tensor_file.sshs_hashes(tensor_file.copied(lora.file), lora.metadata)
        if hash_state(lora.metadata, actual) == "stale":
            yield LoraFinding(
                "warning",
                "metadata",
                f"sshs_model_hash is {display(stated[:12])} and the tensors have {actual[:12]}: "
                "they were changed after the training",
            )
    yield from _stated_ranks(lora)


def _stated_ranks(lora: LoraFile) -> Iterator[LoraFinding]:
    """Compare the rank in the header of a diffusers file with the tensors'."""
    try:
        facts = json.loads(lora.metadata.get(ADAPTER_METADATA, "{}"))
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        yield LoraFinding("warning", "metadata", f"{ADAPTER_METADATA} cannot be read")
        return
    for part in _PARTS:
        rank = facts.get(f"{part}.r")
        ranks = {layer.rank for layer in lora.layers if layer.name.part == part}
        if isinstance(rank, int) and ranks and rank not in ranks:
            yield LoraFinding(
                "warning",
                "metadata",
                f"the header says rank {rank} for the {_PARTS[part]}, and its layers have "
                f"{', '.join(map(str, sorted(ranks)))}: programs would take a wrong strength",
            )
