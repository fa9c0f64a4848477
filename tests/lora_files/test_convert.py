"""`dsk lora convert`: the same numbers under the keys of another format, at the same strength."""

import json
from typing import Any

import numpy as np
import pytest

from datasetkit import api
from tests.lora_files import files
from trainer.lora_files import algebra, lora_file
from trainer.lora_files.layer_names import LayerName, full_set, is_convolutional, kohya

UNET = "lora_unet_mid_block_attentions_0_proj_in"


def converted(path, to, **options):
    result = api.lora_convert(path, api.LoraConvertOptions(to=to, **options))
    return lora_file.read(result.out)


def some_of(family):
    """Return LoRA layers of every kind of a family, with different ranks and alphas."""
    tensors: dict[str, Any] = {}
    names = sorted(full_set(family), key=lambda n: (n.part, n.kind, n.path))
    kinds: dict[tuple[str, str], list[LayerName]] = {}
    for name in names:
        kinds.setdefault((name.part, name.kind), []).append(name)
    for n, members in enumerate(kinds.values()):
        for name in members[:2]:
            ins: tuple[int, ...] = (5,)
            if is_convolutional(name) and name.kind != "time_emb_proj":
                ins = (5, 1, 1) if name.kind == "conv_shortcut" else (5, 3, 3)
            elif name.kind in ("proj_in", "proj_out") and family != "sdxl":
                ins = (5, 1, 1)  # kohya's files of SD2 too
            key = kohya(name, family)
            tensors |= files.pair(key, 6, ins, 2 + n % 3, None if n % 4 == 3 else 1.0 + n)
    return tensors


METADATA = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}


@pytest.mark.parametrize("family", METADATA)
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_there_and_back_is_the_same_file(here, family, dtype):
    source = files.save(
        here / "a.safetensors", some_of(family),
        {"ss_base_model_version": METADATA[family], "ss_seed": "3"}, dtype,
    )  # fmt: skip
    other = converted(source, "diffusers")
    back = converted(other.path, "kohya", out=str(here / "back.safetensors"))
    first = lora_file.read(source)
    assert other.format == "diffusers" and not any("alpha" in key for key in other.file.entries)
    assert all(key.startswith(("unet.", "text_encoder")) for key in other.file.entries)
    without = {layer.key for layer in first.layers if layer.alpha is None}
    assert without and set(back.file.entries) - set(first.file.entries) == {
        f"{key}.alpha" for key in without
    }
    for key, entry in first.file.entries.items():
        assert back.file.entries[key].shape == entry.shape
        assert back.file.bytes_of(key) == first.file.bytes_of(key)
    by_name = {layer.name: layer for layer in other.layers}
    for layer in first.layers:
        assert by_name[layer.name].scale == pytest.approx(layer.scale)
        assert np.array_equal(algebra.delta(by_name[layer.name]), algebra.delta(layer))
    assert back.metadata["ss_seed"] == "3" and api.lora_info([back.path]).files[0].hash_state == (
        "true"
    )


def test_the_projections_of_sd2_are_linear_in_diffusers(here):
    cross = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = files.pair(UNET, 6, (5, 1, 1), 2, 1.0) | files.pair(cross, 6, 1024, 2, 1.0)
    lora = converted(files.save(here / "a.safetensors", tensors), "diffusers")
    shapes = {key: entry.shape for key, entry in lora.file.entries.items() if "proj_in" in key}
    assert sorted(shapes.values()) == [(2, 5), (6, 2)]


def test_the_header_restores_each_rank_and_alpha(here):
    out = "lora_unet_mid_block_attentions_0_proj_out"
    tensors = files.pair(UNET, 6, (5, 1, 1), 2, 1.0) | files.pair(out, 6, (5, 1, 1), 4, 3.0)
    more = UNET.replace("mid_block_attentions_0", "up_blocks_1_attentions_0")
    tensors |= files.pair(more, 6, (5, 1, 1), 2, 1.0)
    lora = converted(files.save(here / "a.safetensors", tensors), "diffusers")
    facts = json.loads(lora.metadata["lora_adapter_metadata"])
    assert (facts["unet.r"], facts["unet.lora_alpha"]) == (2, 1)
    assert facts["unet.rank_pattern"] == {"mid_block.attentions.0.proj_out": 4}
    assert facts["unet.alpha_pattern"] == {"mid_block.attentions.0.proj_out": 3}


def test_a_peft_file_becomes_one_of_kohya_with_its_alpha(dsk, here):
    name = "base_model.model.mid_block.attentions.0.proj_in"
    tensors = {f"{name}.lora_A.weight": np.ones((4, 5)), f"{name}.lora_B.weight": np.ones((6, 4))}
    files.save(here / "adapter_model.safetensors", tensors)
    (here / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 16}))
    ended = dsk("lora", "convert", "adapter_model.safetensors")
    assert ended.code == 0, ended.err
    lora = lora_file.read(here / "adapter_model-kohya.safetensors")
    assert lora.layers[0].key == UNET and lora.layers[0].alpha == 16
    assert lora.metadata["ss_base_model_version"] == "sd_v1"
    # So it can be resized, as the hint of dsk lora resize says.
    assert dsk("lora", "resize", "adapter_model.safetensors", "--rank", "1").code == 2
    assert dsk("lora", "resize", "adapter_model-kohya.safetensors", "--rank", "1").code == 0


def test_it_is_a_command_like_the_others(dsk, here):
    files.save(here / "a.safetensors", files.pair(UNET, 6, (5, 1, 1), 2, 1.0))
    dry = dsk("lora", "convert", "a.safetensors", "--to", "diffusers", "--dry-run", "--json")
    assert dry.code == 0 and dry.result["entry"] is None
    assert sorted(path.name for path in here.iterdir()) == ["a.safetensors"]
    assert dsk("lora", "convert", "a.safetensors", "--to", "diffusers").code == 0
    assert dsk("lora", "convert", "a.safetensors", "--to", "diffusers").code == 2
    assert dsk("undo").code == 0 and not (here / "a-diffusers.safetensors").exists()


@pytest.mark.parametrize(
    ("tensors", "code", "what"),
    [
        ({f"{UNET}.diff": (6, 5)}, 2, "not a plain LoRA"),
        ({f"{UNET}.lokr_w1": (2, 2), f"{UNET}.lokr_w2": (3, 3)}, 2, "not a plain LoRA"),
        ({f"{UNET}.lora_up.weight": (6, 2)}, 12, "lora_down.weight is missing"),
        ({f"{UNET}.oft_blocks": (6, 2, 2), f"{UNET}.diff": (6, 5)}, 2, "not a plain LoRA"),
        (
            {"lora_unet_double_blocks_0_x.lora_up.weight": (6, 2),
             "lora_unet_double_blocks_0_x.lora_down.weight": (2, 6)},
            2, "Flux",
        ),
        (
            {f"{UNET}.lora_up.weight": (6, 2), f"{UNET}.lora_down.weight": (2, 6), "x": (2,)},
            2, "1 name cannot be converted, such as x",
        ),
        (
            {f"{UNET}.lora_up.weight": (6, 2), f"{UNET}.lora_down.weight": (2, 6),
             f"{UNET}.dora_scale": (1, 6)},
            2, "is a DoRA",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_refused(dsk, here, tensors, code, what):
    files.save(here / "a.safetensors", {name: np.ones(shape) for name, shape in tensors.items()})
    ended = dsk("lora", "convert", "a.safetensors", "--to", "diffusers")
    assert ended.code == code and what in ended.err
    assert sorted(path.name for path in here.iterdir()) == ["a.safetensors"]


def test_the_hint_for_other_methods_is_followed(dsk, here):
    files.save(here / "a.safetensors", {f"{UNET}.diff": np.eye(6)})
    assert "dsk lora resize --as-lora" in dsk("lora", "convert", "a.safetensors").err
    assert dsk("lora", "resize", "a.safetensors", "--as-lora", "--fro", "1").code == 0
    ended = dsk("lora", "convert", "a-fro1.safetensors", "--to", "diffusers")
    assert ended.code == 0, ended.err
