"""Add LoRAs to a checkpoint: its own layout stays, tensors are streamed, and those that no LoRA
changes are copied byte by byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from datasetkit.core.errors import InputError, ModelFileError
from datasetkit.core.files import display
from datasetkit.core.words import counted
from trainer.lora_files import algebra, merge
from trainer.lora_files.base_weights import BaseTensor, BaseWeights
from trainer.lora_files.layer_names import LayerName
from trainer.lora_files.merge import WeightedLayer
from trainer.lora_files.new_lora import encoded
from trainer.lora_files.precision import FLOATS, PRECISIONS, Array, rounded
from trainer.lora_files.tensor_file import NewTensor, TensorEntry

_WRITABLE = ("F64", "F32", "F16", "BF16")


@dataclass(slots=True)
class RoundingLoss:
    """What the precision of a checkpoint loses of a change, summed over its tensors."""

    squared_error: float = 0.0
    squared_change: float = 0.0
    unmoved: int = 0
    changed: int = 0

    def add(self, weight: Array, change: Array, stored: Array) -> None:
        """Count a tensor: its weight, its change, and their sum as it is stored."""
        actual = stored - weight
        self.squared_error += float(((actual - change) ** 2).sum())
        self.squared_change += float((change**2).sum())
        nonzero = change != 0
        self.unmoved += int((nonzero & (actual == 0)).sum())
        self.changed += int(nonzero.sum())

    @property
    def error(self) -> float:
        """Return the norm of the rounding errors, as a share of that of the change."""
        return (self.squared_error / self.squared_change) ** 0.5 if self.squared_change else 0.0

    @property
    def unmoved_share(self) -> float:
        return self.unmoved / self.changed if self.changed else 0.0


@dataclass(frozen=True, slots=True)
class CheckpointMerge:
    """The tensors of a merged checkpoint, which are computed when they are written; loss is
    complete after that. missing: layers that the checkpoint does not have.
    """

    tensors: list[NewTensor]
    changed: int
    missing: tuple[str, ...]
    loss: RoundingLoss = field(default_factory=RoundingLoss)


@dataclass(frozen=True, slots=True)
class _Addition:
    """What is added to a tensor, or to some of its rows; it is computed when it is needed."""

    rows: tuple[int, int] | None
    change: Callable[[], Array]


def merge_into(
    base: BaseWeights,
    gathered: Mapping[LayerName, Sequence[WeightedLayer]],
    *,
    precision: str,
    allow_missing: bool,
) -> CheckpointMerge:
    """Plan a merged checkpoint. Raises InputError for a folder, layers without a target, layers
    that do not fit.
    """
    if base.path.is_dir():
        raise InputError(
            f"{display(base.path)} is a folder; LoRAs are merged into one file",
            hint="name a checkpoint in the original layout, .safetensors",
        )
    (file,) = base.files
    missing = [
        members[0].layer.key for name, members in gathered.items() if name not in base.layers
    ]
    if missing and not allow_missing:
        raise InputError(
            f"{display(base.path)} does not have {counted(len(missing), 'layer')} of the LoRA: "
            + ", ".join(map(display, missing[:3]))
            + (" ..." if len(missing) > 3 else ""),
            hint="name the family's checkpoint, or leave them out with --allow-missing",
        )
    by_key: dict[str, list[_Addition]] = {}
    for name, members in gathered.items():
        target = base.layers.get(name)
        if target is not None:
            _require_fit(target, members)
            by_key.setdefault(target.key, []).append(
                _Addition(target.rows, lambda members=members: merge.weighted_sum(members))  # type: ignore[misc]
            )
            if bias_key := _bias_key(target, members):
                by_key.setdefault(bias_key, []).append(
                    _Addition(target.rows, lambda members=members: merge.weighted_bias(members))  # type: ignore[misc]
                )
    if not by_key:
        raise InputError(
            f"{display(base.path)} has none of the LoRA's layers",
            hint="name the family's checkpoint",
        )
    plan = CheckpointMerge([], len(by_key), tuple(missing))
    for entry in sorted(file.entries.values(), key=lambda e: e.start):
        plan.tensors.append(
            _new_tensor(base, entry, by_key.get(entry.name, ()), precision, plan.loss)
        )
    return plan


def _new_tensor(
    base: BaseWeights,
    entry: TensorEntry,
    parts: Sequence[_Addition],
    precision: str,
    loss: RoundingLoss,
) -> NewTensor:
    (file,) = base.files
    converts = precision != "same" and entry.dtype in FLOATS
    dtype = PRECISIONS[precision] if converts else entry.dtype
    if not parts and dtype == entry.dtype:
        return NewTensor(entry.name, dtype, entry.shape, lambda: file.chunks(entry.name))
    if dtype not in _WRITABLE:
        raise InputError(
            f"{display(entry.name)} is stored as {display(dtype)}, which is not written",
            hint="give --precision bf16",
        )

    def data() -> Iterator[bytes]:
        weight = file.array(entry.name)
        if parts and not np.isfinite(weight).all():
            raise ModelFileError(
                f"{display(file.path)}: {display(entry.name)} has numbers that are not finite",
                hint="name another checkpoint",
            )
        change = np.zeros_like(weight)
        for part in parts:
            rows = slice(*part.rows) if part.rows else slice(None)
            change[rows] += part.change().reshape(change[rows].shape)
        total = weight + change
        if parts:
            loss.add(weight, change, rounded(total, dtype))
        yield from encoded(entry.name, total, dtype).data()

    return NewTensor(entry.name, dtype, entry.shape, data)


def _bias_key(target: BaseTensor, members: Sequence[WeightedLayer]) -> str | None:
    """Return the key of the bias that the layers change, None if they change none. Raises
    InputError where the checkpoint has no such bias.
    """
    biases = {m.layer.key: bias for m in members if (bias := algebra.bias(m.layer)) is not None}
    for key, bias in biases.items():
        if target.bias_key is None or len(bias) != target.matrix_size[0]:
            what = "has no bias" if target.bias_key is None else "has a bias of another size"
            raise InputError(
                f"{display(key)} changes a bias, and {display(target.key)} {what}",
                hint="name the family's checkpoint",
            )
    return target.bias_key if biases else None


def _require_fit(target: BaseTensor, members: Sequence[WeightedLayer]) -> None:
    """Raise InputError where a LoRA's layer is of another size than the checkpoint's; a linear
    layer may be stored as a 1x1 convolution.
    """
    size = target.matrix_size
    for member in members:
        layer = member.layer
        if layer.method == "lora":
            shape = (layer.shape[0], int(np.prod(layer.shape[1:])))
        else:
            shape = algebra.delta(layer).shape
        if shape != size:
            raise InputError(
                f"{display(layer.key)} of {display(layer.file.path)} is {shape[0]} x {shape[1]}, "
                f"and {display(target.key)} is {size[0]} x {size[1]}",
                hint="name the family's checkpoint",
            )
