"""`dsk lora extract`: the difference of two models is a LoRA, with nothing clamped or dropped."""

from typing import Any

import numpy as np
import pytest

from datasetkit import api
from tests.lora_files import files
from trainer.lora_files import algebra, lora_file
from trainer.lora_files.base_weights import open_base

UNET = "model.diffusion_model.middle_block.1.proj_in.weight"
CONV = "model.diffusion_model.middle_block.0.in_layers.2.weight"
NORM = "model.diffusion_model.middle_block.0.in_layers.0.weight"
BIAS = "model.diffusion_model.middle_block.1.proj_in.bias"
TEXT = "cond_stage_model.transformer.text_model.encoder.layers.3.mlp.fc1.weight"
VAE = "first_stage_model.encoder.conv_in.weight"
LORA = {
    UNET: "lora_unet_mid_block_attentions_0_proj_in",
    CONV: "lora_unet_mid_block_resnets_0_conv1",
    TEXT: "lora_te_text_model_encoder_layers_3_mlp_fc1",
}
SHAPES: dict[str, tuple[int, ...]] = {
    UNET: (12, 10, 1, 1), CONV: (12, 10, 3, 3), TEXT: (14, 10), NORM: (10,), BIAS: (12,),
    VAE: (4, 3, 3, 3),
}  # fmt: skip


def model(path, changes=None, dtype="F32"):
    """Write a checkpoint with a few layers. changes: key -> what is added."""
    rng = np.random.default_rng(1)
    tensors: dict[str, Any] = {key: rng.standard_normal(shape) for key, shape in SHAPES.items()}
    tensors["model.diffusion_model.input_blocks.0.0.weight"] = np.ones((4, 4, 3, 3))
    for key, change in (changes or {}).items():
        tensors[key] = tensors[key] + np.asarray(change).reshape(tensors[key].shape)
    return files.save(path, tensors, dtype=dtype)


def low_rank(key, rank, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    rows, columns = SHAPES[key][0], int(np.prod(SHAPES[key][1:]))
    return scale * rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))


def extracted(here, changes, dtype="F32", **options):
    base, tuned = (
        model(here / "base.safetensors"),
        model(here / "tuned.safetensors", changes, dtype),
    )
    given = api.LoraExtractOptions(out=str(here / "out.safetensors"), **options)
    result = api.lora_extract(str(tuned), str(base), given)
    return result, {layer.key: layer for layer in lora_file.read(result.out).layers}


def test_a_difference_of_low_rank_comes_back(here):
    changes = {key: low_rank(key, 3) for key in LORA}
    result, layers = extracted(here, changes, fro=0.999999)
    assert set(layers) == set(LORA.values()) and result.kept == pytest.approx(1, abs=1e-6)
    for key, name in LORA.items():
        assert layers[name].rank == 3 and layers[name].alpha == 3
        assert np.allclose(algebra.delta(layers[name]), changes[key], atol=1e-5)
    assert layers[LORA[CONV]].shape == SHAPES[CONV]
    assert layers[LORA[UNET]].shape == SHAPES[UNET]


@pytest.mark.parametrize("rank", [1, 4])
def test_each_layer_is_the_best_of_its_rank_and_nothing_is_clamped(here, rank):
    changes = {UNET: low_rank(UNET, 10), TEXT: low_rank(TEXT, 10, scale=100)}
    changes[UNET][0, 0] += 1000  # an outlier, which other programs clamp at a quantile
    result, layers = extracted(here, changes, rank=rank)
    for key in changes:
        best = algebra.truncated(algebra.svd_of_matrix(changes[key]), rank).product()
        actual = algebra.delta(layers[LORA[key]])
        assert np.linalg.norm(actual - best) < 1e-5 * np.linalg.norm(best)
    assert result.layers == 2 and result.same == 1


def test_a_text_encoder_that_changed_little_is_not_dropped(here):
    changes = {UNET: low_rank(UNET, 2), TEXT: low_rank(TEXT, 2, scale=1e-4)}
    assert np.abs(changes[TEXT]).max() < 0.01
    _, layers = extracted(here, changes, rank=2)
    actual = algebra.delta(layers[LORA[TEXT]])
    assert np.allclose(actual, changes[TEXT], atol=1e-6)


def test_convolutions_have_their_own_limit(here):
    changes = {key: low_rank(key, 8) for key in LORA}
    _, layers = extracted(here, changes, rank=6, conv_rank=2)
    assert {name: layer.rank for name, layer in layers.items()} == {
        LORA[UNET]: 6, LORA[CONV]: 2, LORA[TEXT]: 6,
    }  # fmt: skip


def test_what_no_lora_holds_is_counted(here):
    changes = {UNET: low_rank(UNET, 2), NORM: np.ones(10), BIAS: 2 * np.ones(12), VAE: np.ones(108)}
    result, layers = extracted(here, changes, rank=2)
    assert set(layers) == {LORA[UNET]}
    assert result.uncaptured is not None
    assert result.uncaptured.tensors == 2 and result.uncaptured.vae
    assert result.uncaptured.norm == pytest.approx(np.sqrt(10 + 48), rel=1e-5)
    assert any("2 tensors differ" in text for text in result.warnings)


def test_the_base_with_the_extracted_lora_is_the_tuned_model(here):
    changes = {key: low_rank(key, 3) for key in LORA}
    result, _ = extracted(here, changes, rank=3)
    again = here / "again.safetensors"
    options = api.LoraMergeOptions(out=str(again), into=str(here / "base.safetensors"))
    api.lora_merge([(result.out, 1.0)], options)
    tuned, merged = open_base(str(here / "tuned.safetensors")), open_base(str(again))
    for name, tensor in tuned.layers.items():
        assert np.allclose(tensor.matrix(), merged.layers[name].matrix(), atol=1e-5)


def test_the_precision_is_that_of_the_tuned_model_or_the_given_one(here):
    result, _ = extracted(here, {UNET: low_rank(UNET, 2)}, dtype="F16", rank=2)
    assert lora_file.read(result.out).dtype == "F16"
    result.out.unlink()
    result, _ = extracted(here, {UNET: low_rank(UNET, 2)}, rank=2, precision="bf16")
    assert lora_file.read(result.out).dtype == "BF16"


def test_it_is_a_command_like_the_others(dsk, here):
    model(here / "base.safetensors")
    model(here / "tuned.safetensors", {UNET: low_rank(UNET, 2)})
    before = sorted(path.name for path in here.iterdir())
    arguments = ("lora", "extract", "tuned.safetensors", "base.safetensors", "--rank", "2")
    assert dsk(*arguments, "--dry-run").code == 0
    assert sorted(path.name for path in here.iterdir()) == before
    ended = dsk(*arguments)
    assert ended.code == 0 and "2 layers without a difference left out" in ended.out
    assert dsk("lora", "check", "tuned-rank2.safetensors").code == 0
    (info,) = api.lora_info([here / "tuned-rank2.safetensors"]).files
    assert info.hash_state == "true" and info.metadata["ss_network_dim"] == "2"
    assert info.metadata["ss_base_model_version"] == "sd_v1"
    assert dsk("undo").code == 0 and not (here / "tuned-rank2.safetensors").exists()


def test_models_that_do_not_fit_are_refused(dsk, here):
    model(here / "base.safetensors")
    model(here / "tuned.safetensors", {UNET: low_rank(UNET, 2)})
    model(here / "nan.safetensors", {UNET: np.full(SHAPES[UNET], np.nan)})
    lora = files.pair(LORA[UNET], 6, 5, 2)
    files.save(here / "lora.safetensors", lora)
    wide = {UNET: np.ones((12, 11, 1, 1)), TEXT: np.ones((2, 2))}
    files.save(here / "wide.safetensors", wide)
    (here / "old.ckpt").write_bytes(b"PK\x03\x04" + bytes(99))
    before = sorted(path.name for path in here.iterdir())
    for code, what, *arguments in (
        (2, "no rule was given", "tuned.safetensors", "base.safetensors"),
        (2, "two rules", "tuned.safetensors", "base.safetensors", "--rank", "2", "--fro", "0.9"),
        (2, "no layer of", "base.safetensors", "base.safetensors", "--rank", "2"),
        (2, "2 x 2 in", "wide.safetensors", "base.safetensors", "--rank", "2"),
        (12, "not finite", "nan.safetensors", "base.safetensors", "--rank", "2"),
        (12, "not a base model", "lora.safetensors", "base.safetensors", "--rank", "2"),
        (12, "not a base model", "tuned.safetensors", "lora.safetensors", "--rank", "2"),
        (12, "a pickle", "old.ckpt", "base.safetensors", "--rank", "2"),
        (12, "No such file", "missing.safetensors", "base.safetensors", "--rank", "2"),
        (12, "not a base model", ".", "base.safetensors", "--rank", "2"),
        (2, "never replaced", "tuned.safetensors", "base.safetensors", "--rank", "2", "--out",
         "base.safetensors"),
    ):  # fmt: skip
        ended = dsk("lora", "extract", *arguments)
        assert ended.code == code and what in ended.err, (arguments, ended.err)
        assert ended.err.startswith("error: ") and "\nhint: " in ended.err
        assert sorted(path.name for path in here.iterdir()) == before


def test_a_hint_about_the_rule_is_followed(dsk, here):
    model(here / "base.safetensors")
    model(here / "tuned.safetensors", {UNET: low_rank(UNET, 2)})
    arguments = ("lora", "extract", "tuned.safetensors", "base.safetensors")
    assert "give --rank 32, or --fro 0.9" in dsk(*arguments).err
    assert dsk(*arguments, "--rank", "32").code == 0
    assert dsk(*arguments, "--fro", "0.9").code == 0
    # Nothing grows beyond what the difference has.
    assert lora_file.read(here / "tuned-fro0.9.safetensors").layers[0].rank <= 2
