"""How an image was generated, as text in its PNG: the `parameters` of the common web interfaces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

# The PNG text key in which other programs look for it.
TEXT_KEY: Final = "parameters"
# What the web interfaces call the samplers of sd-scripts; others have no name there.
SAMPLER_NAMES: Final[Mapping[str, str]] = {
    "ddim": "DDIM", "pndm": "PLMS", "euler": "Euler", "k_euler": "Euler", "euler_a": "Euler a",
    "k_euler_a": "Euler a", "heun": "Heun", "dpm_2": "DPM2", "k_dpm_2": "DPM2",
    "dpm_2_a": "DPM2 a", "k_dpm_2_a": "DPM2 a", "dpmsolver++": "DPM++ 2M",
}  # fmt: skip


def parameters(
    prompt: str,
    negative: str,
    *,
    steps: int,
    sampler: str,
    cfg: float,
    seed: int,
    size: tuple[int, int],
    model: str,
    model_hash: str,
    clip_skip: int,
    program: str,
    lora_hashes: str = "",
) -> str:
    """Return the text. lora_hashes: `name: hash, name: hash`."""
    facts = {
        "Steps": steps, "Sampler": SAMPLER_NAMES.get(sampler, sampler), "CFG scale": f"{cfg:g}",
        "Seed": seed, "Size": f"{size[0]}x{size[1]}", "Model hash": model_hash[:10],
        "Model": model, "Clip skip": clip_skip, "Lora hashes": lora_hashes, "Version": program,
    }  # fmt: skip
    below = f"\nNegative prompt: {negative}" if negative else ""
    return f"{prompt}{below}\n" + ", ".join(
        f"{key}: {_quoted(str(value))}" for key, value in facts.items() if value != ""
    )


def _quoted(value: str) -> str:
    """Quote a value in which a comma, a colon or a line would end it."""
    if any(char in value for char in ",:\n"):
        return json.dumps(value, ensure_ascii=False)
    return value
