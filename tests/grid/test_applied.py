"""LoRAs applied in place: the model computes with the right weights, and the base comes back bit by
bit.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from datasetkit import api  # noqa: E402
from datasetkit.core.errors import InputError  # noqa: E402
from tests.lora_files.files import pair, save  # noqa: E402
from trainer.families import registry  # noqa: E402
from trainer.grid.applied import AppliedLora  # noqa: E402
from trainer.lora_files import lora_file  # noqa: E402

UNET = "lora_unet_mid_block_attentions_0_proj_in"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
TEXT = "lora_te_text_model_encoder_layers_0_mlp_fc1"


@pytest.fixture(scope="module")
def parts():
    return registry.family("sd1").load(
        "tiny", revision="", vae="", prediction=None, dtype=torch.float32
    )


def shapes(parts):
    unet, text = parts.denoiser, parts.part("text_encoder")
    layer = next(m for n, m in text.named_modules() if n.endswith("encoder.layers.0.mlp.fc1"))
    return {
        UNET: unet.mid_block.attentions[0].proj_in,
        CONV: unet.down_blocks[0].resnets[0].conv1,
        TEXT: layer,
    }


def tensors(parts, alpha=2.0):
    found: dict[str, Any] = {}
    for key, module in shapes(parts).items():
        out, *ins = module.weight.shape
        size = tuple(ins) if len(ins) > 1 else ins[0]
        found |= pair(key, out, size, 4, alpha, scale=0.1)
    return found


def delta(found, key, like):
    up, down = found[f"{key}.lora_up.weight"], found[f"{key}.lora_down.weight"]
    product = 0.5 * up.reshape(len(up), -1) @ down.reshape(len(down), -1)
    return torch.from_numpy(product).float().reshape(like.shape)


def states(parts):
    return {name: {k: t.clone() for k, t in parts.part(name).state_dict().items()}
            for name in parts.names}  # fmt: skip


def assert_equal(parts, before):
    for name, state in before.items():
        for key, tensor in parts.part(name).state_dict().items():
            assert torch.equal(tensor, state[key]), key


def test_a_lora_is_added_with_its_weights_and_taken_out_exactly(parts, tmp_path):
    found, before = tensors(parts), states(parts)
    lora = lora_file.read(save(tmp_path / "k.safetensors", found))
    base = {key: module.weight.clone() for key, module in shapes(parts).items()}
    applied = AppliedLora(parts)
    for unet, text in ((1.0, 1.0), (0.5, -0.25), (0.0, 1.0)):
        applied.apply(lora, unet, text)  # over the one before
        for key, module in shapes(parts).items():
            factor = text if key == TEXT else unet
            expected = base[key] + factor * delta(found, key, base[key])
            assert torch.allclose(module.weight, expected, atol=1e-6), key
    applied.apply(None)
    assert_equal(parts, before)


def test_a_dora_scales_to_its_magnitude(parts, tmp_path):
    module = shapes(parts)[TEXT]
    base = module.weight.clone()
    found = pair(TEXT, base.shape[0], base.shape[1], 4, 2.0, scale=0.1)
    magnitude = 2 * torch.linalg.vector_norm(base, dim=0, keepdim=True)
    found[f"{TEXT}.dora_scale"] = magnitude.numpy()
    applied = AppliedLora(parts)
    applied.apply(lora_file.read(save(tmp_path / "d.safetensors", found)))
    norms = torch.linalg.vector_norm(module.weight, dim=0, keepdim=True)
    assert torch.allclose(norms, magnitude, rtol=1e-5)
    applied.restore()
    assert torch.equal(module.weight, base)


def test_a_lora_that_does_not_fit_leaves_the_base_as_it_was(parts, tmp_path):
    before, applied = states(parts), AppliedLora(parts)
    wrong = tensors(parts) | pair(TEXT, 7, 5, 4)
    with pytest.raises(InputError, match="changes 7 x 5 weights"):
        applied.apply(lora_file.read(save(tmp_path / "w.safetensors", wrong)))
    assert_equal(parts, before)
    missing = pair("lora_unet_down_blocks_0_attentions_0_proj_in", 8, 8, 2)
    with pytest.raises(InputError, match=r"does not have 1 layer .* lora_unet_down_blocks_0"):
        applied.apply(lora_file.read(save(tmp_path / "m.safetensors", missing)))
    assert_equal(parts, before)


@pytest.mark.long
def test_a_grid_of_the_tiny_base_is_what_the_web_interfaces_would_draw(parts, tmp_path):
    folder = tmp_path / "out"
    found = tensors(parts)
    save(folder / "k-000001.safetensors", found, {"ss_epoch": "1", "ss_resolution": "(64, 64)"})
    options = api.GridOptions(
        base="tiny", x="epoch", y="weight=0.5,1", prompt=("1girl, smile",), steps=3, cfg=4.0
    )
    result = api.grid(folder, options)
    lines = [json.loads(line) for line in (folder / "grid/grid.jsonl").read_text().splitlines()]
    assert [line["unet_weight"] for line in lines] == [0, 0.5, 1]
    # the LoRA at half its weight is the file with half its alpha
    half = tensors(parts, alpha=1.0)
    save(tmp_path / "half/k.safetensors", half, {"ss_resolution": "(64, 64)"})
    other = api.GridOptions(base="tiny", x="weight=1", prompt=("1girl, smile",), steps=3, cfg=4.0)
    again = api.grid(tmp_path / "half", other)
    from PIL import Image

    first, second = (
        np.asarray(Image.open(path), int) for path in (result.drawn[1], again.drawn[1])
    )
    assert abs(first - second).max() <= 2
    base = [np.asarray(Image.open(r.drawn[0]), int) for r in (result, again)]
    # 0.96 in float32, more in bf16, which a CPU without it does not take
    assert (base[0] == base[1]).all() and abs(base[0] - first).mean() > 0.5
