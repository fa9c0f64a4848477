"""The rows of the table: what each of them runs, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

TRAINER: Final = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors")
TAGGER: Final = ("onnxruntime", "onnx")
CORRECTNESS, SPEED, TAGGING = "correctness", "speed", "tagger"
REFERENCE: Final = "reference: float32 on the CPU"


@dataclass(frozen=True, slots=True)
class Row:
    """A row. group: of the rows that have the same columns. settings: for the function of its
    group. needs: Python packages. limit: seconds. on_cpu: it runs on the CPU on every machine.
    """

    name: str
    group: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = TRAINER
    limit: int = 120
    on_cpu: bool = False


def _correct(name: str, loss: float, cosine: float, **settings: Any) -> Row:
    """Return a row that trains the tiny base. loss: the largest relative difference of the final
    loss from the reference's; cosine: the smallest cosine between the LoRA's weights and its.
    """
    return Row(name, CORRECTNESS, {"bounds": (loss, cosine), **settings})


_CORRECTNESS: Final = (
    Row(REFERENCE, CORRECTNESS, on_cpu=True),
    _correct("float32, AdamW fused", 5e-3, 0.98, optimizer_args=("fused=True",)),
    _correct("float32, AdamW not fused", 5e-3, 0.98, optimizer_args=("fused=False",)),
    _correct("float32, channels last", 5e-3, 0.98, channels_last=True),
    _correct("bf16", 2e-2, 0.97, mixed_precision="bf16"),
    _correct("bf16, not channels last", 2e-2, 0.97, mixed_precision="bf16", channels_last=False),
    _correct("fp16", 2e-2, 0.97, mixed_precision="fp16"),
    _correct("int8 base", 1e-2, 0.97, base_precision="int8"),
    _correct("int8 base, 6 blocks streamed", 1e-2, 0.97, base_precision="int8", blocks_to_swap=6),
    _correct("gradient checkpointing", 5e-3, 0.98, gradient_checkpointing=True),
    _correct("torch_compile", 1e-2, 0.95, torch_compile=True),
    Row("resumed after half of the steps", CORRECTNESS, {"resumes": True}),
)
_INT8: Final[Mapping[str, Any]] = {"base_precision": "int8"}
_CHECKPOINTING: Final[Mapping[str, Any]] = {"gradient_checkpointing": True}
# Family -> its title in the table.
FAMILIES: Final = {"sd1": "SD1.5 512", "sdxl": "SDXL 1024", "z-image": "Z-Image 1024"}


def _speed(name: str, plain: bool, settings: Mapping[str, Any]) -> tuple[Row, ...]:
    return tuple(
        Row(f"{title}, {name}", SPEED, {"family": family, "plain": plain, **settings})
        for family, title in FAMILIES.items()
    )


# The comparison with the plain loop comes first: the last rows are left out when time is short.
_SPEED: Final = (
    *_speed("plain loop", True, {}),
    *_speed("dsk", False, {}),
    *_speed("plain loop, gradient checkpointing", True, _CHECKPOINTING),
    *_speed("dsk, gradient checkpointing", False, _CHECKPOINTING),
    *_speed("dsk, int8 base", False, _INT8),
    *_speed("dsk, int8 base, half of the blocks streamed", False, {**_INT8, "streams_half": True}),
)
_TAGGER: Final = (
    Row("ViT-B/16 448, CPU provider", TAGGING, {"provider": "cpu"}, TAGGER, on_cpu=True),
    Row("ViT-B/16 448, CUDA provider", TAGGING, {"provider": "cuda"}, TAGGER),
)
ROWS: Final = (*_CORRECTNESS, *_SPEED[:6], *_TAGGER, *_SPEED[6:])
