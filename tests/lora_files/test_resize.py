"""`dsk lora resize`: the golden ranks, and none of the defects of other programs."""

import errno
import json

import numpy as np
import pytest
from safetensors.torch import load_file

from datasetkit import api
from tests.lora_files import files
from trainer.lora_files import algebra, lora_file, resize, tensor_file
from trainer.lora_files.resize import RankRule

UNET = "lora_unet_mid_block_attentions_0_proj_in"
CONV = "lora_unet_mid_block_resnets_0_conv1"


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    return files.save(
        tmp_path_factory.mktemp("golden") / "golden.safetensors",
        files.golden_tensors(),
        {"ss_network_dim": "128", "ss_network_alpha": "64"},
    )


# In the order of the names: two of the text encoder and a third, then the UNet's.
RULES = {
    "ratio 2": (
        RankRule("ratio", 2), (2, 1, 1, 1, 7, 64, 2),
        (0.968253, 1, 1, 0.787092, 0.878198, 1, 0.871727),
    ),
    "ratio 5": (
        RankRule("ratio", 5), (3, 1, 1, 5, 16, 64, 5),
        (0.992164, 1, 1, 0.952223, 0.982682, 1, 0.985781),
    ),
    "ratio 20": (
        RankRule("ratio", 20), (5, 1, 1, 20, 29, 64, 9),
        (0.999519, 1, 1, 0.994407, 0.998890, 1, 0.999191),
    ),
    "fro .9": (
        RankRule("fro", 0.9), (2, 1, 1, 3, 8, 52, 3),
        (0.968253, 1, 1, 0.918274, 0.902606, 0.901388, 0.939341),
    ),
    "fro .95": (
        RankRule("fro", 0.95), (2, 1, 1, 5, 12, 58, 4),
        (0.968253, 1, 1, 0.952223, 0.959288, 0.951972, 0.970754),
    ),
    "fro .99": (
        RankRule("fro", 0.99), (3, 1, 1, 16, 19, 63, 6),
        (0.992164, 1, 1, 0.990720, 0.990834, 0.992157, 0.993061),
    ),
    "fro .9, at most 32": (
        RankRule("fro", 0.9, most=32), (2, 1, 1, 3, 8, 32, 3),
        (0.968253, 1, 1, 0.918274, 0.902606, 0.707107, 0.939341),
    ),
    "cumulative .9": (
        RankRule("cumulative", 0.9), (4, 1, 1, 22, 22, 58, 7),
        (0.998053, 1, 1, 0.995757, 0.995139, 0.951972, 0.996609),
    ),
    "rank 4": (
        RankRule("rank", 4), (4, 1, 4, 4, 4, 4, 4),
        (0.998053, 1, 1, 0.939121, 0.754674, 0.25, 0.970754),
    ),
    "rank 16, convolutions 4": (
        RankRule("rank", 16, most_kernel=4), (8, 1, 16, 16, 16, 16, 4),
        (1, 1, 1, 0.990720, 0.982682, 0.5, 0.970754),
    ),
}  # fmt: skip
# (rule, layer): a singular value stands on the bound there, and rounding decides.
ON_THE_BOUND = {("ratio 2", 0), ("ratio 2", 3), ("ratio 5", 3), ("ratio 20", 3)}


@pytest.mark.parametrize("name", RULES)
def test_the_golden_ranks(golden, name):
    rule, ranks, kept = RULES[name]
    lora = lora_file.read(golden)
    layers, report = zip(*resize.resize(lora, rule), strict=True)
    assert [layer.norm for layer in report] == pytest.approx(
        [1.154692, 0, 1, 0.635249, 1.147079, 4, 0.087517], abs=1e-6
    )
    for n, (new, old, row) in enumerate(zip(layers, lora.layers, report, strict=True)):
        if (name, n) not in ON_THE_BOUND:
            assert row.rank == ranks[n]
            assert row.kept == pytest.approx(kept[n], abs=2e-6)
        assert abs(row.rank - ranks[n]) <= 1 <= row.rank <= old.rank
        assert new.alpha == pytest.approx(old.scale * row.rank)


@pytest.mark.long
def test_the_result_is_the_best_of_its_rank(golden):
    """Against the SVD of the whole matrix in float64, of layers whose values are distinct."""
    lora = lora_file.read(golden)
    layers = [layer for layer, _ in resize.resize(lora, RankRule("rank", 3))]
    for n in (0, 3, 6):
        whole = algebra.delta(lora.layers[n])
        best = algebra.truncated(algebra.svd_of_matrix(whole), 3).product()
        ours = layers[n].factors.product() * lora.layers[n].scale
        assert np.linalg.norm(ours - best) < 1e-12 * np.linalg.norm(whole)


def test_both_factors_hold_the_square_root_of_the_singular_values(golden):
    for layer, _ in resize.resize(lora_file.read(golden), RankRule("rank", 4)):
        up = np.linalg.norm(layer.factors.up, axis=0)
        down = np.linalg.norm(layer.factors.down, axis=1)
        assert np.allclose(up, down) or not up.any()


def read(path):
    return {key: value.numpy() for key, value in load_file(path).items()}


@pytest.mark.long
def test_a_file_is_written_checked_and_undone(dsk, here, golden):
    (here / "a.safetensors").write_bytes(golden.read_bytes())
    before = (here / "a.safetensors").read_bytes()
    dry = dsk("lora", "resize", "a.safetensors", "--fro", "0.95", "--dry-run")
    assert dry.code == 0 and "would write a-fro0.95.safetensors" in dry.out
    assert sorted(path.name for path in here.iterdir()) == ["a.safetensors"]
    ended = dsk("lora", "resize", "a.safetensors", "--fro", "0.95")
    assert ended.code == 0, ended.err
    assert "1 layer without effect: lora_te_text_model_encoder_layers_11_mlp_fc2" in ended.out
    assert "% of the norm kept  (history 1; to undo: dsk undo)" in ended.out
    assert dry.out.splitlines()[:5] == ended.out.splitlines()[:5]
    assert (here / "a.safetensors").read_bytes() == before
    new = here / "a-fro0.95.safetensors"
    assert dsk("lora", "check", new).code == 0
    (info,) = api.lora_info([new]).files
    assert info.hash_state == "true"
    assert info.metadata["ss_network_dim"] == info.metadata["ss_network_alpha"] == "Dynamic"
    assert info.metadata["ss_training_comment"] == "resized by fro0.95"
    assert info.metadata["dsk_resized_from"] == api.lora_info([golden]).files[0].model_hash
    assert dsk("lora", "resize", "a.safetensors", "--fro", "0.95").code == 2
    assert dsk("undo").code == 0 and not new.exists()


@pytest.mark.long
@pytest.mark.parametrize("precision", ["float", "fp16", "bf16"])
def test_the_norm_kept_is_that_of_the_saved_file(here, golden, precision):
    out = here / "small.safetensors"
    options = api.LoraResizeOptions(rank=6, out=str(out), precision=precision)
    result = api.lora_resize(golden, options)
    saved, source = lora_file.read(out), lora_file.read(golden)
    for row, new, old in zip(result.layers, saved.layers, source.layers, strict=True):
        assert new.rank == row.rank and new.alpha == pytest.approx(old.scale * row.rank, rel=1e-6)
        if row.norm:
            whole = algebra.delta(old)
            kept = np.sum(whole * algebra.delta(new)) / np.sum(whole * whole)
            assert kept == pytest.approx(row.kept**2, abs=1e-3)
    assert {entry.dtype for entry in saved.file.entries.values()} <= {
        "F32", {"float": "F32", "fp16": "F16", "bf16": "BF16"}[precision],
    }  # fmt: skip
    alphas = [e for name, e in saved.file.entries.items() if name.endswith(".alpha")]
    assert len(alphas) == 7 and {e.dtype for e in alphas} == {"F32"}


def test_the_precision_of_the_source_is_kept(here):
    path = files.save(here / "a.safetensors", files.pair(UNET, 40, 30, 8, 4.0), dtype="BF16")
    api.lora_resize(path, api.LoraResizeOptions(rank=4))
    assert lora_file.read(here / "a-rank4.safetensors").dtype == "BF16"


# ---- what goes wrong in other programs


def resized(path, **options):
    result = api.lora_resize(path, api.LoraResizeOptions(**options))
    return result, lora_file.read(result.out)


def test_a_limit_for_convolutions_is_not_one_for_1x1(here):
    tensors = files.pair(UNET, 40, (30, 1, 1), 16) | files.pair(CONV, 40, (30, 3, 3), 16)
    _, lora = resized(files.save(here / "a.safetensors", tensors), rank=8, conv_rank=4)
    ranks = {layer.key: layer.rank for layer in lora.layers}
    assert ranks == {UNET: 8, CONV: 4}
    assert {layer.key: layer.shape for layer in lora.layers} == {
        UNET: (40, 30, 1, 1), CONV: (40, 30, 3, 3),
    }  # fmt: skip


@pytest.mark.parametrize("options", [{"rank": 64}, {"fro": 1.0}, {"ratio": 1e6}])
def test_a_rank_never_grows(here, options):
    tensors = files.pair(UNET, 40, 30, 8, 4.0) | files.pair(CONV, 3, (30, 3, 3), 16, 4.0)
    result, lora = resized(files.save(here / "a.safetensors", tensors), **options)
    # A layer of 3 outputs has no more than rank 3.
    assert {layer.key: layer.rank for layer in lora.layers} == {UNET: 8, CONV: 3}
    assert result.kept == pytest.approx(1)
    source = lora_file.read(here / "a.safetensors")
    for new, old in zip(lora.layers, source.layers, strict=True):
        assert np.allclose(algebra.delta(new), algebra.delta(old), atol=1e-5)


def test_a_rank_of_one_is_possible(here):
    one = files.pair(UNET, 40, 30, 1, 1.0)
    wide = {f"{CONV}.lora_up.weight": np.outer(np.ones(40), np.ones(4))[..., None, None],
            f"{CONV}.lora_down.weight": np.ones((4, 30, 3, 3)), f"{CONV}.alpha": 4.0}  # fmt: skip
    _, lora = resized(files.save(here / "a.safetensors", one | wide), fro=0.99)
    assert {layer.rank for layer in lora.layers} == {1}


def test_a_middle_factor_is_refused_or_multiplied_out(dsk, here):
    rng = np.random.default_rng(0)
    tensors = {
        f"{CONV}.lora_up.weight": rng.standard_normal((40, 8, 1, 1)),
        f"{CONV}.lora_mid.weight": rng.standard_normal((8, 8, 3, 3)),
        f"{CONV}.lora_down.weight": rng.standard_normal((8, 30, 1, 1)),
        f"{CONV}.alpha": 4.0,
    }
    path = files.save(here / "a.safetensors", tensors)
    ended = dsk("lora", "resize", "a.safetensors", "--rank", "8")
    assert ended.code == 2 and "lora_mid" in ended.err and "--as-lora" in ended.err
    _, lora = resized(path, rank=8, as_lora=True)
    before = algebra.delta(lora_file.read(path).layers[0])
    assert np.allclose(algebra.delta(lora.layers[0]), before, rtol=1e-4, atol=1e-4)
    assert "lora_mid.weight" not in lora.layers[0].tensors


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ({"hada_w1_a": (40, 2), "hada_w1_b": (2, 30), "hada_w2_a": (40, 2), "hada_w2_b": (2, 30)},
         "LoHa"),
        ({"lokr_w1": (4, 3), "lokr_w2": (10, 10)}, "LoKr"),
        ({"diff": (40, 30)}, "full matrices"),
    ],
    ids=["loha", "lokr", "full"],
)  # fmt: skip
def test_other_methods_are_refused_or_multiplied_out(dsk, here, tensors, what):
    rng = np.random.default_rng(0)
    path = files.save(
        here / "a.safetensors",
        {f"{UNET}.{name}": rng.standard_normal(shape) for name, shape in tensors.items()}
        | {f"{UNET}.alpha": 1.0},
        {"ss_network_dim": "2"},
    )
    ended = dsk("lora", "resize", "a.safetensors", "--rank", "30")
    assert ended.code == 2 and what in ended.err and not list(here.glob("*-rank*"))
    _, lora = resized(path, rank=30, as_lora=True)
    before = algebra.delta(lora_file.read(path).layers[0])
    assert lora.layers[0].method == "lora" and lora.metadata["ss_network_dim"] == "30"
    assert np.allclose(algebra.delta(lora.layers[0]), before, rtol=1e-4, atol=1e-4)


def test_a_flattened_loha_of_a_convolution_gets_its_kernel_back(here):
    rng = np.random.default_rng(0)
    shapes = {
        "hada_w1_a": (8, 2), "hada_w1_b": (2, 45), "hada_w2_a": (8, 2), "hada_w2_b": (2, 45),
    }  # fmt: skip
    tensors = {f"{CONV}.{name}": rng.standard_normal(shape) for name, shape in shapes.items()}
    _, lora = resized(files.save(here / "a.safetensors", tensors), rank=4, as_lora=True)
    assert lora.layers[0].shape == (8, 5, 3, 3)


def test_the_alpha_in_the_header_of_a_diffusers_file_is_read_and_written(here):
    path = "unet.mid_block.attentions.0.proj_in"
    rng = np.random.default_rng(0)
    tensors = {
        f"{path}.lora_A.weight": rng.standard_normal((8, 30)),
        f"{path}.lora_B.weight": rng.standard_normal((40, 8)),
    }
    facts = files.adapter({"unet.r": 8, "unet.lora_alpha": 4, "unet.bias": "none"})
    source = files.save(here / "a.safetensors", tensors, facts)
    _, lora = resized(source, rank=4)
    assert sorted(lora.file.entries) == [f"{path}.lora_A.weight", f"{path}.lora_B.weight"]
    facts = json.loads(lora.metadata["lora_adapter_metadata"])
    assert (facts["unet.r"], facts["unet.lora_alpha"], facts["unet.bias"]) == (4, 2, "none")
    best = algebra.svd_of_matrix(algebra.delta(lora_file.read(source).layers[0]))
    expected = algebra.truncated(best, 4).product()
    assert np.allclose(algebra.delta(lora.layers[0]), expected, atol=1e-5)


def test_the_header_has_one_alpha_or_says_that_they_differ(here):
    tensors = files.pair(UNET, 40, 30, 8, 4.0) | files.pair(CONV, 40, (30, 3, 3), 8, 1.0)
    path = files.save(
        here / "a.safetensors", tensors,
        {"ss_network_args": json.dumps({"conv_dim": "8", "conv_alpha": "1"}), "ss_seed": "7"},
    )  # fmt: skip
    _, lora = resized(path, rank=4)
    assert lora.metadata["ss_network_dim"] == "4" and lora.metadata["ss_network_alpha"] == "2"
    assert json.loads(lora.metadata["ss_network_args"]) == {"conv_dim": "4", "conv_alpha": "0.5"}
    assert lora.metadata["ss_seed"] == "7"
    other = tensors | files.pair(UNET.replace("in", "out"), 40, 30, 8, 8.0)
    _, lora = resized(files.save(here / "b.safetensors", other), rank=4)
    assert lora.metadata["ss_network_alpha"] == "Dynamic"


def test_a_dora_is_refused_or_forced(dsk, here):
    tensors = files.pair(UNET, 40, 30, 8, 4.0) | {f"{UNET}.dora_scale": np.ones((1, 30))}
    files.save(here / "a.safetensors", tensors)
    ended = dsk("lora", "resize", "a.safetensors", "--rank", "4")
    assert ended.code == 2 and "is a DoRA" in ended.err and "--force" in ended.err
    ended = dsk("lora", "resize", "a.safetensors", "--rank", "4", "--force")
    assert ended.code == 0 and "DoRA's magnitudes were kept" in ended.err
    assert f"{UNET}.dora_scale" in read(here / "a-rank4.safetensors")


def test_a_layer_without_effect_gets_rank_1_and_no_nan(here):
    tensors = files.pair(UNET, 40, 30, 8, 4.0) | {f"{UNET}.lora_up.weight": np.zeros((40, 8))}
    result, lora = resized(files.save(here / "a.safetensors", tensors), fro=0.9)
    assert result.zero == (UNET,) and result.kept == 1
    assert lora.layers[0].rank == 1
    assert all(np.isfinite(value).all() for value in read(result.out).values())


def test_what_fp16_cannot_hold_is_an_error(dsk, here):
    tensors = files.pair(UNET, 40, 30, 8, 4.0, scale=1e11)
    files.save(here / "a.safetensors", tensors)
    ended = dsk("lora", "resize", "a.safetensors", "--rank", "4", "--precision", "fp16")
    assert ended.code == 2 and "which the precision cannot hold" in ended.err
    assert sorted(path.name for path in here.iterdir()) == ["a.safetensors"]
    ended = dsk("lora", "resize", "a.safetensors", "--rank", "4", "--precision", "bf16")
    assert ended.code == 0


@pytest.mark.long
def test_wrong_files_and_wrong_calls(dsk, here):
    path = files.save(here / "a.safetensors", files.pair(UNET, 40, 30, 8, 4.0))
    nan = files.pair(UNET, 40, 30, 8, 4.0) | {f"{UNET}.alpha": np.nan}
    files.save(here / "nan.safetensors", nan)
    half = {f"{UNET}.lora_up.weight": np.ones((4, 4))}
    files.save(here / "half.safetensors", half)
    peft = f"base_model.model.{UNET}"
    files.save(here / "peft.safetensors", {
        f"{peft}.lora_A.weight": np.ones((4, 4)), f"{peft}.lora_B.weight": np.ones((4, 4)),
    })  # fmt: skip
    names = sorted(p.name for p in here.iterdir())
    for code, *arguments in (
        (2, "a.safetensors"),
        (2, "a.safetensors", "--rank", "4", "--fro", "0.9"),
        (2, "a.safetensors", "--rank", "0"),
        (2, "a.safetensors", "--fro", "1.5"),
        (2, "a.safetensors", "--rank", "4", "--out", "a.safetensors"),
        (2, "a.safetensors", "--rank", "4", "--out", "nan.safetensors"),
        (2, "a.safetensors", "--rank", "4", "--out", "a.ckpt"),
        (2, "peft.safetensors", "--rank", "4"),
        (12, "nan.safetensors", "--rank", "4"),
        (12, "half.safetensors", "--rank", "4"),
        (12, "missing.safetensors", "--rank", "4"),
        (12, ".", "--rank", "4"),
    ):
        ended = dsk("lora", "resize", *arguments)
        assert ended.code == code, (arguments, ended.err)
        assert ended.err.startswith("error: ") and "\nhint: " in ended.err
        assert sorted(p.name for p in here.iterdir() if p.name != ".dsk") == names
    assert path.is_file()


@pytest.mark.parametrize(
    ("error", "code"), [(OSError(errno.ENOSPC, "No space left"), 13), (KeyboardInterrupt(), 130)]
)
def test_a_file_that_cannot_be_finished_leaves_nothing(dsk, here, monkeypatch, error, code):
    files.save(here / "a.safetensors", files.pair(UNET, 40, 30, 8, 4.0))
    whole = tensor_file.write

    def interrupted(file, tensors, *others):
        whole(file, tensors, *others)
        raise error

    monkeypatch.setattr(tensor_file, "write", interrupted)
    assert dsk("lora", "resize", "a.safetensors", "--rank", "4").code == code
    assert sorted(p.name for p in here.iterdir() if p.name != ".dsk") == ["a.safetensors"]
    monkeypatch.setattr(tensor_file, "write", whole)
    assert dsk("lora", "resize", "a.safetensors", "--rank", "4").code == 0
    assert dsk("undo").code == 0 and not (here / "a-rank4.safetensors").exists()


def test_a_file_that_appears_meanwhile_is_kept(dsk, here, monkeypatch):
    files.save(here / "a.safetensors", files.pair(UNET, 40, 30, 8, 4.0))
    whole = tensor_file.write

    def slow(file, tensors, *others):
        whole(file, tensors, *others)
        (here / "a-rank4.safetensors").write_bytes(b"somebody's")

    monkeypatch.setattr(tensor_file, "write", slow)
    ended = dsk("lora", "resize", "a.safetensors", "--rank", "4")
    assert ended.code == 2 and "already exists" in ended.err
    assert (here / "a-rank4.safetensors").read_bytes() == b"somebody's"
