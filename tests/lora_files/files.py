"""LoRA files for tests, made with numpy alone: the golden file, and small ones of every method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainer.lora_files import tensor_file
from trainer.lora_files.layer_names import full_set, is_convolutional, kohya
from trainer.lora_files.precision import encode
from trainer.lora_files.tensor_file import NewTensor

BLOCK = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_"
TEXT = "lora_te_text_model_encoder_layers_"


class Golden(NamedTuple):
    """A layer of the golden file, in the order in which they are drawn."""

    name: str
    out: int
    ins: tuple[int, ...]
    rank: int
    alpha: float | None
    values: list[float]
    norm: float


GOLDEN = (
    Golden(f"{BLOCK}attn1_to_q", 320, (320,), 128, 64, [0.9**i for i in range(128)], 1.147079),
    Golden(f"{BLOCK}ff_net_0_proj", 2560, (320,), 64, 32, [1.0] * 64, 4.0),
    Golden(
        "lora_unet_down_blocks_0_attentions_0_proj_in",
        320, (320, 1, 1), 32, 16, [1 / (i + 1) for i in range(32)], 0.635249,
    ),
    Golden(
        "lora_unet_down_blocks_0_resnets_0_conv1",
        320, (320, 3, 3), 16, 1, [0.7**i for i in range(16)], 0.087517,
    ),
    Golden(f"{TEXT}0_mlp_fc1", 3072, (768,), 8, 8, [0.5**i for i in range(8)], 1.154692),
    Golden(f"{TEXT}11_mlp_fc2", 768, (3072,), 8, 8, [0.0] * 8, 0.0),
    Golden(f"{TEXT}1_self_attn_q_proj", 768, (768,), 32, None, [1.0] + [0.0] * 31, 1.0),
)  # fmt: skip


def golden_tensors() -> dict[str, np.ndarray]:
    """Draw the golden file: numpy's frozen generator, no torch."""
    rng = np.random.RandomState(0)
    tensors: dict[str, np.ndarray] = {}
    for g in GOLDEN:
        n = int(np.prod(g.ins))
        left = np.linalg.qr(rng.randn(g.out, g.rank)).Q
        right = np.linalg.qr(rng.randn(n, g.rank)).Q
        mix = rng.randn(g.rank, g.rank) / np.sqrt(g.rank) + 2 * np.eye(g.rank)
        up, down = (left * g.values) @ mix, np.linalg.solve(mix, right.T)
        tail = (1,) * (len(g.ins) - 1)
        tensors[f"{g.name}.lora_up.weight"] = up.reshape(g.out, g.rank, *tail).astype(np.float32)
        tensors[f"{g.name}.lora_down.weight"] = down.reshape(g.rank, *g.ins).astype(np.float32)
        if g.alpha is not None:
            tensors[f"{g.name}.alpha"] = np.asarray(g.alpha, np.float32)
    return tensors


def save(
    path: Path,
    tensors: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
    dtype: str = "F32",
) -> Path:
    """Write tensors; alpha in float32. The header gets the true hash where it has ss_ keys."""
    new = [_tensor(name, np.asarray(value, float), dtype) for name, value in tensors.items()]
    new = tensor_file.sort_tensors(new)
    header = dict(metadata or {})
    if any(key.startswith("ss_") for key in header):
        hashes = tensor_file.sshs_hashes(new, header)
        header.setdefault("sshs_model_hash", hashes[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        tensor_file.write(file, new, header)
    return path


def _tensor(name: str, value: np.ndarray, dtype: str) -> NewTensor:
    kind = "F32" if name.endswith(".alpha") and dtype != "F64" else dtype
    return NewTensor(name, kind, value.shape, lambda: [encode(value, kind)])


def pair(
    name: str, out: int, ins: int | tuple[int, ...], rank: int, alpha: float | None = None,
    *, seed: int = 0, scale: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """Return the tensors of a random LoRA layer with kohya's keys."""
    rng = np.random.default_rng([seed, sum(name.encode())])
    shape = ins if isinstance(ins, tuple) else (ins,)
    tail = (1,) * (len(shape) - 1)
    tensors: dict[str, Any] = {
        f"{name}.lora_down.weight": rng.standard_normal((rank, *shape)) / np.sqrt(np.prod(shape)),
        f"{name}.lora_up.weight": scale * rng.standard_normal((out, rank, *tail)),
    }
    if alpha is not None:
        tensors[f"{name}.alpha"] = alpha
    return tensors


def whole_sd1(rank: int = 2, *, dead_from: int = 12) -> dict[str, Any]:
    """Return the 264 layers of SD1 with tiny matrices. dead_from: text layers from it are zero."""
    tensors: dict[str, Any] = {}
    for name in sorted(full_set("sd1")):
        if is_convolutional(name):
            continue
        key = kohya(name, "sd1")
        tensors |= pair(key, 6, 768 if name.kind in ("attn2.to_k", "attn2.to_v") else 5, rank, 1.0)
        number = int(name.block) if name.part == "text_encoder" else -1
        if number >= dead_from:
            tensors[f"{key}.lora_up.weight"] = np.zeros((6, rank))
    return tensors


def adapter(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the header by which diffusers restores an adapter."""
    return {"format": "pt", "lora_adapter_metadata": json.dumps(facts)}
