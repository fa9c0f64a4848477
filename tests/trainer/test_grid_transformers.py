"""`dsk grid` with the LoRA of a transformer: fused layers of a file are several in the model."""

from typing import Any

import pytest
import torch

from datasetkit import api
from datasetkit.core.errors import InputError
from tests.lora_files.files import pair, save
from trainer.families import registry
from trainer.grid import loras
from trainer.grid.applied import AppliedLora

z_image: Any = registry.family("z-image")


@pytest.fixture(scope="module")
def parts(dit_base):
    return z_image.load(str(dit_base("z-image")))


def fused(attention):
    """Return a LoRA of q, k and v in one layer, as the original code has them."""
    rows = sum(getattr(attention, f"to_{letter}").weight.shape[0] for letter in "qkv")
    return pair("lora_unet_layers_0_attention_qkv", rows, attention.to_q.weight.shape[1], 3, 1.5)


def test_a_fused_layer_changes_each_of_its_layers_and_comes_out_exactly(parts, tmp_path):
    attention = parts.denoiser.layers[0].attention
    tensors = fused(attention)
    before = {letter: getattr(attention, f"to_{letter}").weight.clone() for letter in "qkv"}
    (lora,) = loras.read([save(tmp_path / "k.safetensors", tensors)])
    assert lora.lora.family_title == "Z-Image"
    applied = AppliedLora(parts)
    applied.apply(lora.lora, 0.8, 0.0)
    up, down = (
        tensors[f"lora_unet_layers_0_attention_qkv.lora_{n}.weight"] for n in ("up", "down")
    )
    whole = torch.from_numpy(0.5 * up @ down).float()
    heights = [len(weight) for weight in before.values()]
    for letter, change in zip("qkv", torch.split(whole, heights), strict=True):
        weight = getattr(attention, f"to_{letter}").weight
        assert torch.allclose(weight, before[letter] + 0.8 * change, atol=1e-5), letter
    applied.restore()
    assert all(torch.equal(getattr(attention, f"to_{n}").weight, before[n]) for n in "qkv")


def test_a_transformers_lora_is_refused_on_a_unet(parts, tmp_path):
    path = save(tmp_path / "k.safetensors", fused(parts.denoiser.layers[0].attention))
    options = api.GridOptions(base="tiny", prompt=("1girl",), size=(64, 64))
    with pytest.raises(InputError, match="is of Z-Image, and the base model tiny is Stable"):
        api.grid(path, options)


@pytest.mark.long
def test_a_grid_of_a_transformer_is_drawn(parts, dit_base, tmp_path):
    path = save(tmp_path / "k.safetensors", fused(parts.denoiser.layers[0].attention))
    options = api.GridOptions(
        base=str(dit_base("z-image")), x="weight=1", prompt=("1girl",), size=(64, 64), steps=2,
        cfg=1.0,
    )  # fmt: skip
    result = api.grid(path, options)
    assert len(result.drawn) == 2
    assert result.drawn[0].read_bytes() != result.drawn[1].read_bytes()
