"""Options of the commands of `dsk lora`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from datasetkit.options.declare import CheckedOptions, option


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraCheckOptions(CheckedOptions):
    """`dsk lora check`: what to compare with, and what to write."""

    base: str = option(
        "",
        "The base model: norms are also given as a share of its weights, and layers that it does "
        "not have are named. tiny is part of the package.",
        group="LoRA files",
        path="model",
        counts_from="command line",
        shown="none",
        change="you compare runs by their strength, or the LoRA does not load",
    )
    plot: str = option(
        "",
        "Also draw a heat map, a PNG: kinds of layers by blocks, all files on one scale.",
        path="output file",
        counts_from="command line",
        shown="none",
        change="you want to see which blocks were changed most",
    )
    strict: bool = option(
        False,
        "Exit with 20 if there is a warning.",
        change="a script must stop",
    )


Precision = Literal["same", "float", "fp16", "bf16"]
_OUT: Final = "The new file; an existing one is never replaced."
_RANKS: Final = (1, 4096)


# Options of more than one command. rule: what chooses the rank, in words.


def _fro(change: str) -> float | None:
    return option(
        None,
        "For each layer the least rank that keeps this share of the Frobenius norm.",
        range=(0.01, 1),
        counts_from="command line",
        shown="none",
        change=change,
    )


def _max_rank(rule: str) -> int | None:
    return option(
        None,
        f"The greatest rank that {rule} may choose.",
        range=_RANKS,
        shown="no limit",
        change="the file must not exceed a size",
    )


def _conv_rank(rule: str) -> int | None:
    return option(
        None,
        f"The rank, or with {rule} its greatest, of convolutions larger than 1x1.",
        range=_RANKS,
        shown="as other layers",
        change="convolutions may be coarser than the rest",
    )


def _out(shown: str) -> str:
    return option(
        "",
        _OUT,
        path="output file",
        counts_from="command line",
        shown=shown,
        change="the file must have another name",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraResizeOptions(CheckedOptions):
    """`dsk lora resize`: one rule for the new rank, and its limits."""

    rank: int | None = option(
        None,
        "The new rank, of layers that have a greater one.",
        group="LoRA files",
        range=_RANKS,
        counts_from="command line",
        shown="none",
        change="a program or a merge needs one rank for all layers",
    )
    fro: float | None = _fro("the file must be smaller and act the same: 0.9 to 0.99")
    ratio: float | None = option(
        None,
        "For each layer the singular values above the largest / RATIO.",
        range=(1, 1e6),
        counts_from="command line",
        shown="none",
        change="you know what it does in other programs",
    )
    cumulative: float | None = option(
        None,
        "For each layer the least rank that keeps this share of the sum of the singular values.",
        range=(0.01, 1),
        counts_from="command line",
        shown="none",
        change="you know what it does in other programs",
    )
    max_rank: int | None = _max_rank("a rule")
    conv_rank: int | None = _conv_rank("a rule")
    out: str = _out("FILE-RULE.safetensors beside it")
    precision: Precision = option(
        "same",
        "The precision of the new file; alpha is always float.",
        change="fp16 is too narrow, or the file must be half as large",
    )
    as_lora: bool = option(
        False,
        "Multiply out LoHa, LoKr, full matrices and middle factors; make a plain LoRA of them.",
        counts_from="command line",
        change="a program cannot read them, or they must be resized",
    )
    force: bool = option(
        False,
        "Resize a DoRA, whose magnitudes then fit only nearly.",
        counts_from="command line",
        change="you compare images with both files",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConvertOptions(CheckedOptions):
    """`dsk lora convert`: the format, and the new file."""

    to: Literal["kohya", "diffusers", "comfy"] = option(
        "kohya",
        "kohya: the keys of sd-scripts, for web interfaces and ComfyUI. diffusers: those of "
        "diffusers and peft, with alpha in the header. comfy: the keys that ComfyUI, Forge and "
        "diffusers read, of transformers such as Z-Image.",
        group="LoRA files",
        counts_from="command line",
        change="diffusers has to load it",
    )
    out: str = _out("FILE-FORMAT.safetensors beside it")
    precision: Precision = option(
        "same",
        "The precision of the new file; alpha is always float.",
        change="a program needs another one",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraMergeOptions(CheckedOptions):
    """`dsk lora merge`: how, with which weights, and into what."""

    out: str = option(
        "",
        _OUT,
        group="LoRA files",
        path="output file",
        counts_from="command line",
        shown="must be given",
        change="always: it must be given",
    )
    into: str = option(
        "",
        "A checkpoint, .safetensors, to which the LoRAs are added; the new file is a checkpoint.",
        path="input file",
        counts_from="command line",
        shown="none: the new file is a LoRA",
        change="a program takes no LoRA, or you train on top of it",
    )
    how: Literal["concat", "svd", "ties", "dare"] | None = option(
        None,
        "concat: the exact sum, whose rank is the sum of the ranks. svd: the sum, cut to --rank. "
        "ties, dare: of changes that contradict each other.",
        counts_from="command line",
        shown="concat, with --rank svd",
        change="the file must be smaller, or the LoRAs disturb each other",
    )
    rank: int | None = option(
        None,
        "The rank of the new file.",
        range=_RANKS,
        counts_from="command line",
        shown="the sum of the ranks",
        change="the file must be smaller; ties and dare need it",
    )
    density: float = option(
        0.5,
        "The share of each change that ties and dare keep.",
        range=(0.01, 1),
        counts_from="command line",
        change="ties keeps too much of what contradicts, or too little",
    )
    seed: int = option(
        0,
        "Seed of dare.",
        range=(0, 2**63 - 1),
        counts_from="command line",
        change="you want another draw",
    )
    blocks: tuple[str, ...] = option(
        (),
        "Weights of blocks, by name (BASE=1,IN04=0.5,MID=0) or as a list of 17 or 26 numbers, for "
        "SDXL 12 or 20.",
        counts_from="command line",
        shown="1 for all",
        change="only some blocks are to act",
    )
    unet: float = option(
        1.0,
        "The weight of the UNet.",
        range=(-100, 100),
        counts_from="command line",
        change="UNet and text encoder are to act differently",
    )
    text: float = option(
        1.0,
        "The weight of the text encoders.",
        range=(-100, 100),
        counts_from="command line",
        change="UNet and text encoder are to act differently",
    )
    precision: Precision = option(
        "same",
        "The precision of the new file: same is that of the checkpoint, or of the first LoRA.",
        change="the checkpoint is in bf16 and loses too much",
    )
    allow_missing: bool = option(
        False,
        "Leave out layers that the checkpoint does not have.",
        counts_from="command line",
        change="a LoRA has layers of another model on purpose",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraExtractOptions(CheckedOptions):
    """`dsk lora extract`: the rank, and the new file."""

    rank: int | None = option(
        None,
        "The rank of every layer.",
        group="LoRA files",
        range=_RANKS,
        counts_from="command line",
        shown="none",
        change="the file must have a known size: 32 to 128",
    )
    fro: float | None = _fro(
        "layers that changed little need fewer ranks: 0.8 to 0.95, with --max-rank"
    )
    max_rank: int | None = _max_rank("--fro")
    conv_rank: int | None = _conv_rank("--fro")
    out: str = _out("TUNED-RULE.safetensors in the current folder")
    precision: Precision = option(
        "same",
        "The precision of the new file: same is that of the tuned model.",
        change="fp16 is too narrow, or the file must be half as large",
    )
