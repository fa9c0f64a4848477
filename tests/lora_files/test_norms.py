"""The norms that LyCORIS trains (`w_norm`, `b_norm`), in the commands for LoRA files."""

import numpy as np
import pytest

from datasetkit import api
from datasetkit.core.errors import InputError
from tests.lora_files import files
from trainer.lora_files import lora_file
from trainer.lora_files.base_weights import open_base
from trainer.lora_files.measure import measure

QUERY = f"{files.BLOCK}attn1_to_q"
NORM = f"{files.BLOCK}norm1"
GROUP = "lora_unet_down_blocks_0_resnets_0_norm1"
BASE_NORM = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.norm1"
BASE_QUERY = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q"
WEIGHT, BIAS = np.array([1.0, 2.0, -0.5, 0.0]), np.array([0.5, 0.0, 0.25, -1.0])


def norm(key, weight=WEIGHT, bias=BIAS):
    return {f"{key}.w_norm": weight, f"{key}.b_norm": bias}


@pytest.fixture
def mixed(tmp_path):
    """A LoRA of one matrix and one norm."""
    return files.save(tmp_path / "a.safetensors", files.pair(QUERY, 4, 4, 2, 1.0) | norm(NORM))


def tensors_of(path):
    file = lora_file.read(path).file
    return {key: file.array(key) for key in file.entries}


def test_info_and_check_know_them(mixed):
    info = api.lora_info(mixed).files[0]
    assert info.methods["norm"] == 1 and info.layers == 2 and list(info.ranks) == [2]
    assert info.parameters == 4 * 2 * 2 + 8
    checked = api.lora_check(mixed, api.LoraCheckOptions()).files[0]
    assert not [f for f in checked.findings if f.level in ("error", "warning")], checked.findings
    size = float(np.sqrt((WEIGHT**2).sum() + (BIAS**2).sum()))
    assert {m.method: m.norm for m in checked.measures}["norm"] == pytest.approx(size)


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({f"{NORM}.b_norm": BIAS}, "w_norm is missing"),
        ({f"{NORM}.w_norm": np.ones((4, 4))}, "not vectors"),
        (norm(NORM, bias=np.ones(3)), "differ in size"),
        ({f"{NORM}.w_norm": WEIGHT, f"{NORM}.dora_scale": WEIGHT}, ""),
    ],
)
def test_norms_that_do_not_fit_are_incomplete(tmp_path, tensors, problem):
    path = files.save(tmp_path / "a.safetensors", files.pair(QUERY, 4, 4, 2) | tensors)
    layer = next(each for each in lora_file.read(path).layers if each.key == NORM)
    assert (layer.method == "incomplete") == bool(problem) and problem in layer.problem


def test_zero_and_infinite_norms_are_found(tmp_path):
    for value, check in ((0.0, "dead"), (np.nan, "finite")):
        broken = norm(NORM, np.full(4, value), np.zeros(4))
        path = files.save(
            tmp_path / f"{check}.safetensors", files.pair(QUERY, 4, 4, 2, 1.0) | broken
        )
        found = api.lora_check(path, api.LoraCheckOptions()).files[0].findings
        assert [f for f in found if f.check == check and NORM in f.keys]


def test_names_of_text_encoders_and_of_xl_are_known(tmp_path):
    for key, family in (
        (f"{files.TEXT}3_layer_norm2", "sd1"),
        ("lora_unet_input_blocks_4_1_transformer_blocks_1_norm3", "sdxl"),
        ("lora_unet_input_blocks_1_0_in_layers_0", "sdxl"),
        ("lora_unet_output_blocks_3_1_norm", "sdxl"),
    ):
        path = files.save(tmp_path / "a.safetensors", norm(key))
        lora = lora_file.read(path)
        assert lora.family == family and lora.layers[0].name.is_known
        findings = api.lora_check(path, api.LoraCheckOptions()).files[0].findings
        assert not [f for f in findings if "does not have" in f.message], findings


def test_resize_keeps_them(mixed):
    for options in (api.LoraResizeOptions(rank=1), api.LoraResizeOptions(rank=1, as_lora=True)):
        result = api.lora_resize(mixed, options)
        written = tensors_of(result.out)
        assert np.array_equal(written[f"{NORM}.w_norm"], WEIGHT)
        assert np.array_equal(written[f"{NORM}.b_norm"], BIAS)
        assert written[f"{QUERY}.lora_down.weight"].shape[0] == 1
        assert any("norms have no rank" in line for line in result.warnings)
        result.out.unlink()


@pytest.mark.parametrize("to", ["diffusers", "kohya"])
def test_convert_refuses_them(mixed, to):
    with pytest.raises(InputError, match="changes norms") as refused:
        api.lora_convert(mixed, api.LoraConvertOptions(to=to))
    assert "ComfyUI" in refused.value.hint


def test_merged_lora_has_their_sum(mixed, tmp_path):
    other = norm(NORM, 2 * WEIGHT, BIAS) | norm(GROUP)
    two = files.save(tmp_path / "b.safetensors", files.pair(QUERY, 4, 4, 1, 1.0) | other)
    for options in (
        api.LoraMergeOptions(out=str(tmp_path / "concat.safetensors")),
        api.LoraMergeOptions(out=str(tmp_path / "svd.safetensors"), how="svd", rank=2),
    ):
        result = api.lora_merge([(mixed, 1.0), (two, -0.5)], options)
        written = tensors_of(result.out)
        assert np.allclose(written[f"{NORM}.w_norm"], 0.0)
        assert np.allclose(written[f"{NORM}.b_norm"], 0.5 * BIAS)
        assert np.allclose(written[f"{GROUP}.w_norm"], -0.5 * WEIGHT)
        assert result.layers == 3


@pytest.mark.parametrize("how", ["ties", "dare"])
def test_ties_and_dare_are_of_the_changes(mixed, tmp_path, how):
    options = api.LoraMergeOptions(
        out=str(tmp_path / "m.safetensors"), how=how, rank=2, density=1.0
    )
    written = tensors_of(api.lora_merge([(mixed, 1.0)], options).out)
    assert np.allclose(written[f"{NORM}.w_norm"], WEIGHT)
    assert np.allclose(written[f"{NORM}.b_norm"], BIAS)


@pytest.mark.parametrize("name", ["norm.diff", "attn1_to_q.diff_b"])
def test_biases_that_a_lora_cannot_hold_are_not_lost(mixed, tmp_path, name):
    """Otherwise a merge leaves them out, or makes matrices of vectors."""
    module, _, tensor = name.partition(".")
    more = {f"{files.BLOCK}{module}.{tensor}": np.ones(4)}
    if tensor == "diff_b":
        more |= files.pair(f"{files.BLOCK}{module}", 4, 4, 1, 1.0)
    else:
        more = {f"{files.BLOCK}norm2.diff": np.ones(4)}
    two = files.save(tmp_path / "b.safetensors", more)
    out = tmp_path / "m.safetensors"
    with pytest.raises(InputError, match="a bias or another vector") as refused:
        api.lora_merge([mixed, two], api.LoraMergeOptions(out=str(out), how="svd", rank=2))
    assert "--into" in refused.value.hint and not out.exists()


@pytest.fixture
def base(tmp_path):
    tensors = {
        f"{BASE_QUERY}.weight": np.eye(4),
        f"{BASE_NORM}.weight": np.full(4, 1.0),
        f"{BASE_NORM}.bias": np.full(4, 3.0),
        f"{BASE_NORM.replace('norm1', 'ff.net.2')}.weight": np.zeros((4, 4)),
        f"{BASE_NORM.replace('norm1', 'ff.net.2')}.bias": np.zeros(4),
    }
    return files.save(tmp_path / "base.safetensors", tensors)


def test_merged_checkpoint_has_weight_and_bias(mixed, base, tmp_path):
    out = tmp_path / "m.safetensors"
    api.lora_merge([(mixed, 2.0)], api.LoraMergeOptions(out=str(out), into=str(base)))
    merged = {
        key: open_base(str(out)).files[0].array(key) for key in open_base(str(out)).files[0].entries
    }
    assert np.allclose(merged[f"{BASE_NORM}.weight"], 1 + 2 * WEIGHT)
    assert np.allclose(merged[f"{BASE_NORM}.bias"], 3 + 2 * BIAS)
    assert not np.allclose(merged[f"{BASE_QUERY}.weight"], np.eye(4))


def test_merged_checkpoint_has_the_biases_of_other_layers(base, tmp_path):
    """LyCORIS writes the bias of a full matrix as `diff_b`."""
    key = f"{files.BLOCK}ff_net_2"
    path = files.save(
        tmp_path / "a.safetensors", {f"{key}.diff": np.eye(4), f"{key}.diff_b": np.arange(4.0)}
    )
    out = tmp_path / "m.safetensors"
    api.lora_merge([(path, 0.5)], api.LoraMergeOptions(out=str(out), into=str(base)))
    file = open_base(str(out)).files[0]
    target = BASE_NORM.replace("norm1", "ff.net.2")
    assert np.allclose(file.array(f"{target}.bias"), 0.5 * np.arange(4))
    assert np.allclose(file.array(f"{target}.weight"), 0.5 * np.eye(4))


def test_bias_that_the_checkpoint_does_not_have_is_refused(base, tmp_path):
    path = files.save(
        tmp_path / "a.safetensors",
        files.pair(QUERY, 4, 4, 2, 1.0) | {f"{QUERY}.diff_b": np.ones(4)},
    )
    out = tmp_path / "m.safetensors"
    with pytest.raises(InputError, match="has no bias"):
        api.lora_merge([path], api.LoraMergeOptions(out=str(out), into=str(base)))
    assert not out.exists()


def test_norm_of_another_model_is_refused(base, tmp_path):
    path = files.save(tmp_path / "a.safetensors", norm(NORM, np.ones(6), np.ones(6)))
    with pytest.raises(InputError, match="6 x 1"):
        api.lora_merge(
            [path], api.LoraMergeOptions(out=str(tmp_path / "m.safetensors"), into=str(base))
        )


def test_strength_is_that_of_the_weight(mixed, base):
    measured = {m.key: m for m in measure(lora_file.read(mixed), open_base(str(base)))}
    expected = np.linalg.norm(WEIGHT) / 2
    assert measured[NORM].relative == pytest.approx(expected)
