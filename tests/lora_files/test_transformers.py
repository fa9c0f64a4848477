"""LoRA files of transformers: recognised, shown, converted in both directions, resized, merged."""

import numpy as np
import pytest

from datasetkit.core.errors import InputError
from tests.lora_files import files
from trainer.families import registry
from trainer.lora_files import (
    algebra,
    convert,
    describe,
    dit_exports,
    dit_layers,
    lora_file,
    new_lora,
    tensor_file,
)
from trainer.lora_files.low_rank import LowRank

# Family -> diffusers' paths, with in and out features, of one block of each kind.
LAYERS = {
    "z-image": {f"layers.0.attention.to_{x}": (8, 8) for x in ("q", "k", "v", "out.0")},
    "anima": {
        "transformer_blocks.1.attn1.to_q": (8, 8),
        "transformer_blocks.1.attn2.to_k": (8, 6),
        "transformer_blocks.1.ff.net.0.proj": (32, 8),
    },
    "flux": {
        **{f"transformer_blocks.0.attn.to_{x}": (8, 8) for x in "qkv"},
        **{f"single_transformer_blocks.3.attn.to_{x}": (8, 8) for x in "qkv"},
        "single_transformer_blocks.3.proj_mlp": (32, 8),
        "single_transformer_blocks.3.proj_out": (8, 40),
    },
    "flux2": {
        **{f"transformer_blocks.0.attn.add_{x}_proj": (8, 8) for x in "qkv"},
        "single_transformer_blocks.12.attn.to_qkv_mlp_proj": (72, 8),
        "transformer_blocks.0.ff.linear_in": (48, 8),
    },
    "krea2": {
        "transformer_blocks.0.attn.to_gate": (8, 8),
        "transformer_blocks.0.ff.up": (16, 8),
        "transformer_blocks.0.attn.to_q": (8, 8),
    },
    "qwen": {
        "transformer_blocks.59.attn.add_q_proj": (8, 8),
        "transformer_blocks.59.img_mlp.net.2": (8, 32),
    },
    "sd3": {
        "transformer_blocks.2.attn2.to_q": (8, 8),
        "transformer_blocks.2.attn.to_q": (8, 8),
        "transformer_blocks.2.ff_context.net.2": (8, 32),
    },
}
FORMATS = [
    (family, form) for family, exports in dit_layers.EXPORTS.items() for form in exports.formats
]


def layers_of(family, ranks=(2, 3)):
    numbers = np.random.default_rng(5)
    return {
        path: LowRank(
            numbers.normal(size=(out, ranks[n % len(ranks)])),
            numbers.normal(size=(ranks[n % len(ranks)], ins)),
            0.5,
        )
        for n, (path, (out, ins)) in enumerate(LAYERS[family].items())
    }


def heights(family):
    """Return the out features of the layers of a fused one that the LoRA does not have."""
    return {
        part: 8
        for path in LAYERS[family]
        for part in dit_layers.EXPORTS[family].names.from_original(
            dit_layers.EXPORTS[family].names.to_original(path).path
        )
    }


def write(path, family, form, layers, **metadata):
    exports = dit_layers.EXPORTS[family]
    tensors = dict(exports.tensors(layers, form, heights(family)))
    return files.save(path, tensors, metadata)


def changes(path):
    """Return the change of each layer of a file by diffusers' path."""
    lora = lora_file.read(path)
    names = dit_layers.EXPORTS[lora.transformer].names
    found: dict[str, np.ndarray] = {}
    for layer in lora.layers:
        rows = dit_exports.split_rows(names, layer.name.path, algebra.low_rank(layer))
        found |= {part: row.product() for part, row in rows.items()}
    return found


@pytest.mark.parametrize(("family", "form"), FORMATS)
def test_file_of_every_format_is_of_its_family(tmp_path, family, form):
    lora = lora_file.read(write(tmp_path / "a.safetensors", family, form, layers_of(family)))
    assert lora.transformer == family
    assert lora.family_title == dit_layers.TITLES[family]
    assert lora.family is None
    assert lora.format == form
    assert all(layer.name.part == "transformer" and layer.method == "lora" for layer in lora.layers)
    assert lora.others == ()


@pytest.mark.parametrize(("family", "form"), FORMATS)
def test_every_format_is_converted_to_every_other(tmp_path, family, form):
    layers = layers_of(family)
    lora = lora_file.read(write(tmp_path / "a.safetensors", family, form, layers))
    for to in dit_layers.EXPORTS[family].formats:
        converted = convert.convert(lora, to)
        tensors, header = new_lora.finished(converted.layers, (), converted.metadata, to, "F32")
        out = tmp_path / f"{to}.safetensors"
        with out.open("wb") as file:
            tensor_file.write(file, tensors, header)
        assert lora_file.read(out).format == to
        written = changes(out)
        assert set(written) == set(layers)
        for path, layer in layers.items():
            np.testing.assert_allclose(written[path], layer.product(), atol=1e-5)
        has_alpha = any(tensor.name.endswith(".alpha") for tensor in tensors)
        assert has_alpha == (to == "kohya")


def test_attention_alone_is_of_the_family_that_the_header_states(tmp_path):
    layers = {
        f"transformer_blocks.0.attn.to_{x}": LowRank(np.ones((8, 2)), np.ones((2, 8)))
        for x in "qkv"
    }
    for version, family in (("qwen_image", "qwen"), ("krea2", "krea2"), ("", "flux")):
        path = tmp_path / f"{family}.safetensors"
        tensors = dict(dit_layers.EXPORTS["qwen"].tensors(layers, "diffusers"))
        files.save(path, tensors, {"ss_base_model_version": version})
        assert lora_file.read(path).transformer == family


def test_every_family_of_the_registry_is_known_to_the_tools_for_lora_files():
    transformers = [f for f in registry.families() if f.DENOISER == "transformer"]
    named = " or ".join(dit_layers.TITLES.values()).split(" or ")
    assert sorted(named) == sorted(family.TITLE for family in transformers)
    assert dit_layers.TITLES["flux"] == "Flux.1 or Chroma"


@pytest.mark.parametrize("version", ["", "flux2"])
def test_the_gated_mlp_of_flux2_tells_it_from_flux1(tmp_path, version):
    for family in ("flux", "flux2"):
        layers = {
            path: layer
            for path, layer in layers_of(family).items()
            if path.startswith("single_transformer_blocks")
        }
        tensors = dict(dit_layers.EXPORTS[family].tensors(layers, "kohya"))
        path = files.save(tmp_path / "a.safetensors", tensors, {"ss_base_model_version": version})
        assert lora_file.read(path).transformer == family


def test_format_that_a_family_does_not_have_is_refused(tmp_path):
    lora = lora_file.read(write(tmp_path / "a.safetensors", "sd3", "diffusers", layers_of("sd3")))
    with pytest.raises(InputError, match="have no kohya format") as failure:
        list(convert.convert(lora, "kohya").layers)
    assert failure.value.hint == "one of diffusers"


def test_a_unet_has_no_comfy_format(tmp_path):
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    lora = lora_file.read(files.save(tmp_path / "a.safetensors", files.pair(name, 6, 5, 2)))
    assert lora.transformer == ""
    with pytest.raises(InputError, match="have no comfy format"):
        convert.convert(lora, "comfy")


def test_layers_outside_of_the_blocks_are_not_converted(tmp_path):
    tensors = dict(dit_layers.EXPORTS["qwen"].tensors(layers_of("qwen"), "comfy"))
    tensors["diffusion_model.txt_in.lora_A.weight"] = np.ones((2, 8))
    tensors["diffusion_model.txt_in.lora_B.weight"] = np.ones((8, 2))
    lora = lora_file.read(files.save(tmp_path / "a.safetensors", tensors))
    with pytest.raises(InputError, match=r"1 name of Qwen-Image .* diffusion_model\.txt_in"):
        list(convert.convert(lora, "kohya").layers)


@pytest.mark.parametrize("form", ["comfy", "diffusers"])
def test_resized_file_keeps_its_names_and_has_no_alpha(tmp_path, dsk, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    layers = layers_of("qwen", ranks=(3,))
    path = write(tmp_path / "a.safetensors", "qwen", form, layers, ss_network_dim="3")
    before = lora_file.read(path)
    ended = dsk("lora", "resize", "a.safetensors", "--fro", "0.999999", "--out", "b.safetensors")
    assert ended.code == 0
    resized = lora_file.read(tmp_path / "b.safetensors")
    assert [layer.key for layer in resized.layers] == [layer.key for layer in before.layers]
    assert all(layer.alpha in (None, layer.rank) for layer in resized.layers)
    written = changes(tmp_path / "b.safetensors")
    for name, layer in layers.items():
        np.testing.assert_allclose(written[name], layer.product(), atol=1e-2)


def test_merge_adds_files_of_one_format_and_names_the_conversion_for_others(
    tmp_path, dsk, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    first, second = layers_of("z-image"), layers_of("z-image", ranks=(1,))
    write(tmp_path / "a.safetensors", "z-image", "comfy", first)
    write(tmp_path / "b.safetensors", "z-image", "comfy", second)
    write(tmp_path / "c.safetensors", "z-image", "kohya", second)
    refused = dsk("lora", "merge", "a.safetensors", "c.safetensors", "--out", "m.safetensors")
    assert refused.code == 2
    assert "dsk lora convert --to comfy" in refused.err
    assert dsk("lora", "convert", "c.safetensors", "--to", "comfy").code == 0
    for other in ("b", "c-comfy"):
        out = f"{other}-merged.safetensors"
        ended = dsk("lora", "merge", "a.safetensors", f"{other}.safetensors:0.5", "--out", out)
        assert ended.code == 0
        assert lora_file.read(tmp_path / out).format == "comfy"
        merged = changes(tmp_path / out)
        for path, layer in first.items():
            expected = layer.product() + 0.5 * second[path].product()
            np.testing.assert_allclose(merged[path], expected, atol=1e-5)


def test_info_shows_family_and_blocks(tmp_path, dsk, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.safetensors", "flux", "kohya", layers_of("flux"))
    ended = dsk("lora", "info", "a.safetensors")
    assert ended.code == 0
    assert "Flux.1 or Chroma" in ended.out
    lora = lora_file.read(tmp_path / "a.safetensors")
    assert {layer.name.block for layer in lora.layers} == {"B00", "S03"}
    assert {layer.name.kind for layer in lora.layers} == {
        "img_attn.qkv", "linear1", "proj_out",
    }  # fmt: skip
    assert dsk("lora", "check", "a.safetensors").code == 0


def test_a_header_of_a_transformer_gives_the_rate_of_a_transformer(tmp_path):
    path = write(
        tmp_path / "a.safetensors", "z-image", "comfy", layers_of("z-image"), ss_unet_lr="1e-4"
    )
    assert describe.describe(lora_file.read(path)).training == {"transformer rate": "1e-4"}
