"""`dsk lora merge`: the sum of the changes is exact, whatever the ranks and alphas are."""

import json
from typing import Any

import numpy as np
import pytest

from datasetkit import api
from datasetkit.core.errors import ConfigError, InputError
from tests.lora_files import files
from trainer.lora_files import algebra, block_weights, lora_file, merge
from trainer.lora_files.layer_names import parse

UNET = "lora_unet_mid_block_attentions_0_proj_in"
CONV = "lora_unet_mid_block_resnets_0_conv1"
QUERY = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
TEXT = "lora_te_text_model_encoder_layers_0_mlp_fc1"
# name, input, output: a linear layer, a convolution, a 1x1 convolution, the text encoder.
LAYERS: tuple[tuple[str, tuple[int, ...], int], ...] = (
    (QUERY, (320,), 320), (CONV, (64, 3, 3), 64), (UNET, (64, 1, 1), 64), (TEXT, (64,), 256),
)  # fmt: skip
RANKS = {"A": (8, 4.0), "B": (8, 8.0), "C": (16, 1.0)}
NORMS = {TEXT: 3.172310, QUERY: 3.125928, CONV: 3.186230, UNET: 2.934783}
FIRST = {TEXT: 1.346387, QUERY: 1.146135, CONV: 1.333835, UNET: 1.261185}


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """Draw A, B and C from numpy's frozen generator, in one stream; return the folder."""
    rng = np.random.RandomState(7)
    folder = tmp_path_factory.mktemp("golden")
    for title, (rank, alpha) in RANKS.items():
        tensors: dict[str, Any] = {}
        for name, ins, out in LAYERS:
            down = rng.randn(rank, *ins) / np.sqrt(np.prod(ins))
            up = rng.randn(out, rank) / np.sqrt(out)
            tail = (1,) * (len(ins) - 1)
            tensors |= {
                f"{name}.lora_down.weight": down,
                f"{name}.lora_up.weight": up.reshape(out, rank, *tail),
                f"{name}.alpha": alpha,
            }
        files.save(folder / f"{title}.safetensors", tensors, {"ss_output_name": title})
    return folder


def delta_of(path):
    return {layer.key: algebra.delta(layer) for layer in lora_file.read(path).layers}


def exact(golden, **weights):
    parts = {title: delta_of(golden / f"{title}.safetensors") for title in weights}
    return {
        name: sum(weight * parts[title][name] for title, weight in weights.items())
        for name, _, _ in LAYERS
    }


def merged(golden, out, weights, **options):
    pairs = [(golden / f"{title}.safetensors", weight) for title, weight in weights.items()]
    return api.lora_merge(pairs, api.LoraMergeOptions(out=str(out), **options))


def error(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def strength(actual, expected):
    return float((actual * expected).sum() / (expected * expected).sum())


@pytest.mark.parametrize(
    "weights",
    [
        {"A": 1.0, "B": 1.0}, {"A": 0.5, "B": 0.5}, {"A": 1.0, "C": 1.0}, {"A": 1.0, "B": -0.5},
        {"A": 1.0, "B": 1.0, "C": -2.0}, {"C": 0.3},
    ],
    ids=str,
)  # fmt: skip
def test_concatenation_is_the_exact_sum(golden, here, weights):
    result = merged(golden, here / "m.safetensors", weights)
    expected = exact(golden, **weights)
    lora = lora_file.read(here / "m.safetensors")
    for layer in lora.layers:
        actual = algebra.delta(layer)
        assert error(actual, expected[layer.key]) < 1e-6
        assert strength(actual, expected[layer.key]) == pytest.approx(1, abs=1e-6)
        assert layer.alpha == layer.rank == sum(RANKS[title][0] for title in weights)
    assert result.how == "concat" and result.kept == 1
    shapes = {layer.key: layer.shape for layer in lora.layers}
    assert shapes[CONV] == (64, 64, 3, 3) and shapes[UNET] == (64, 64, 1, 1)


def test_the_golden_sum(golden, here):
    merged(golden, here / "m.safetensors", {"A": 1.0, "B": 1.0})
    for layer in lora_file.read(here / "m.safetensors").layers:
        values = algebra.singular_values(algebra.low_rank(layer))
        assert np.linalg.norm(values) == pytest.approx(NORMS[layer.key], abs=2e-6)
        assert values[0] == pytest.approx(FIRST[layer.key], abs=2e-6)


@pytest.mark.parametrize("rank", [8, 16])
def test_a_cut_sum_is_the_best_of_its_rank(golden, here, rank):
    result = merged(golden, here / "m.safetensors", {"A": 1.0, "B": 1.0}, rank=rank)
    expected = exact(golden, A=1.0, B=1.0)
    best_error = {8: 0.389886, 16: 0.0}[rank]
    errors = []
    for layer in lora_file.read(here / "m.safetensors").layers:
        best = algebra.truncated(algebra.svd_of_matrix(expected[layer.key]), rank).product()
        assert error(algebra.delta(layer), best) < 1e-6
        errors.append(np.sum((algebra.delta(layer) - expected[layer.key]) ** 2))
    whole = sum(np.sum(delta**2) for delta in expected.values())
    assert np.sqrt(sum(errors) / whole) == pytest.approx(best_error, abs=0.02)
    assert result.how == "svd" and result.rank == rank
    assert result.kept == pytest.approx(np.sqrt(1 - sum(errors) / whole), abs=1e-4)


def test_the_growth_of_the_rank_is_reported_with_what_a_cut_would_keep(golden, here, dsk):
    arguments = [f"{golden / title}.safetensors:{w}" for title, w in (("A", 0.8), ("C", 0.6))]
    ended = dsk("lora", "merge", *arguments, "--out", "m.safetensors", "--dry-run")
    assert ended.code == 0 and "- rank 8 + 16 = 24; --rank 16 keeps" in ended.out
    assert "A x 0.8 + C x 0.6" in ended.out and not list(here.iterdir())
    cut = dsk("lora", "merge", *arguments, "--out", "m.safetensors", "--rank", "16", "--json")
    assert cut.result["kept"] == pytest.approx(
        merged(golden, here / "n.safetensors", {"A": 0.8, "C": 0.6}).kept_at
    )


# ---- TIES and DARE


def toy():
    rng = np.random.RandomState(5)
    return [rng.randn(6, 2) @ rng.randn(2, 5) for _ in range(3)]


def test_ties_of_the_golden_toy():
    deltas = toy()
    assert [np.linalg.norm(delta) for delta in deltas] == pytest.approx(
        [8.173705, 2.817477, 6.004731], abs=1e-6
    )
    weights = [1, 0.5, 1]
    total = sum(w * delta for w, delta in zip(weights, deltas, strict=True))
    assert np.linalg.norm(total) == pytest.approx(10.191096, abs=1e-6)
    result = merge.ties(deltas, weights, 0.5)
    assert np.linalg.norm(result) == pytest.approx(8.011763, abs=1e-6)
    assert result[0, 0] == pytest.approx(1.227127, abs=1e-6)
    assert (result == 0).sum() == 2
    assert np.linalg.matrix_rank(result) == 5
    values = algebra.svd_of_matrix(result).values
    assert algebra.energy_kept(values, 2) == pytest.approx(0.9006, abs=1e-4)


def toy_files(folder):
    paths = []
    for n, delta in enumerate(toy()):
        left, values, right = np.linalg.svd(delta, full_matrices=False)
        tensors = {
            f"{UNET}.lora_up.weight": left[:, :2] * values[:2],
            f"{UNET}.lora_down.weight": right[:2],
            f"{UNET}.alpha": 2.0,
        }
        paths.append(files.save(folder / f"{n}.safetensors", tensors, dtype="F64"))
    return paths


def test_the_ties_of_files_is_that_of_their_changes(here):
    pairs = list(zip(toy_files(here), (1.0, 0.5, 1.0), strict=True))
    out = here / "m.safetensors"
    result = api.lora_merge(pairs, api.LoraMergeOptions(out=str(out), how="ties", rank=5))
    expected = merge.ties(toy(), [1, 0.5, 1], 0.5)
    assert error(delta_of(out)[UNET], expected) < 1e-6
    assert result.kept == pytest.approx(1)
    cut = api.LoraMergeOptions(out=str(here / "n.safetensors"), how="ties", rank=2)
    assert api.lora_merge(pairs, cut).kept == pytest.approx(0.9006, abs=1e-4)


def test_the_mean_of_many_draws_of_dare_is_the_sum(here):
    paths = toy_files(here)
    sources = [merge.MergeSource(lora_file.read(path), 1.0) for path in paths[:2]]
    members = next(iter(merge.gather(sources, block_weights.BlockWeights({})).values()))
    total = sum(toy()[:2])
    draws = [merge.by_dare(members, 0.5, seed) for seed in range(2000)]
    assert error(np.mean(draws, axis=0), total) < 0.06
    assert 0.5 < error(draws[0], total) < 1.5
    assert np.array_equal(draws[3], merge.by_dare(members, 0.5, 3))
    assert not np.array_equal(draws[3], draws[4])


def test_dare_is_written_and_repeats(here, golden):
    options = {"how": "dare", "rank": 16, "seed": 4}
    merged(golden, here / "a.safetensors", {"A": 1.0, "B": 1.0}, **options)
    merged(golden, here / "b.safetensors", {"A": 1.0, "B": 1.0}, **options)
    first, second = (delta_of(here / f"{n}.safetensors") for n in "ab")
    assert all(np.array_equal(first[name], second[name]) for name in first)


# ---- weights of parts and blocks


def test_block_weights_by_name_and_parts(golden, here):
    merged(
        golden, here / "m.safetensors", {"A": 1.0, "B": 1.0},
        blocks=("mid=0.5", "IN04=2"), text=0.25, unet=3.0,
    )  # fmt: skip
    expected = exact(golden, A=1.0, B=1.0)
    factors = {QUERY: 6, CONV: 1.5, UNET: 1.5, TEXT: 0.25}
    for name, delta in delta_of(here / "m.safetensors").items():
        assert error(delta, factors[name] * expected[name]) < 1e-6


def test_a_block_of_weight_0_is_left_out(golden, here):
    merged(golden, here / "m.safetensors", {"A": 1.0, "B": 1.0}, blocks=("MID=0",), text=0.0)
    assert set(delta_of(here / "m.safetensors")) == {QUERY}
    with pytest.raises(ConfigError, match="every weight is 0"):
        merged(golden, here / "n.safetensors", {"A": 0.0})


@pytest.mark.parametrize(
    ("count", "family", "ones"),
    [
        (26, "sd1", {0: "BASE", 1: "IN00", 12: "IN11", 13: "MID", 14: "OUT00", 25: "OUT11"}),
        (17, "sd2", {0: "BASE", 1: "IN01", 6: "IN08", 7: "MID", 8: "OUT03", 16: "OUT11"}),
        (20, "sdxl", {0: "BASE", 1: "IN00", 9: "IN08", 10: "MID", 11: "OUT00", 19: "OUT08"}),
        (12, "sdxl", {0: "BASE", 1: "IN04", 4: "IN08", 5: "MID", 6: "OUT00", 11: "OUT05"}),
    ],
)
def test_lists_of_block_weights(count, family, ones):
    values = block_weights.parse([str(n) for n in range(count)], family)
    assert {n: name for name, n in values.items() if n in ones} == ones and len(values) == count


@pytest.mark.parametrize(
    ("values", "family"),
    [
        (["1"] * 5, "sd1"), (["1"] * 17, "sdxl"), (["1"] * 20, "sd1"), (["IN09=1"], "sdxl"),
        (["IN4=1"], "sd1"), (["MID=1", "mid=2"], "sd1"), (["MID=x"], "sd1"), (["MID=nan"], "sd1"),
        (["MID=1"], None), (["MID=1", "2"], "sd1"),
    ],
)  # fmt: skip
def test_block_weights_that_do_not_fit_are_refused(values, family):
    with pytest.raises(ConfigError):
        block_weights.parse(values, family)


def test_layers_of_no_block_keep_their_weight():
    weights = block_weights.BlockWeights({"BASE": 0.5, "IN01": 0.0}, unet=2.0, text=3.0)
    assert weights.of(parse(TEXT)) == 1.5
    assert weights.of(parse("lora_unet_time_embed_0")) == 1.0
    assert weights.of(parse("lora_unet_down_blocks_0_resnets_0_conv1")) == 0


# ---- files


def test_files_of_different_forms_and_parts_are_merged(here):
    """One has no text encoder, another diffusers' keys, another a middle factor."""
    rng = np.random.default_rng(0)
    first = files.pair(UNET, 6, (5, 1, 1), 2, 1.0) | files.pair(TEXT, 6, 5, 2, 1.0)
    path = "unet.mid_block.attentions.0.proj_in"
    second = {
        f"{path}.lora_A.weight": rng.standard_normal((3, 5, 1, 1)),
        f"{path}.lora_B.weight": rng.standard_normal((6, 3, 1, 1)),
    }
    third = {
        f"{CONV}.lora_up.weight": rng.standard_normal((6, 3, 1, 1)),
        f"{CONV}.lora_mid.weight": rng.standard_normal((3, 3, 3, 3)),
        f"{CONV}.lora_down.weight": rng.standard_normal((3, 5, 1, 1)),
    }
    paths = [
        files.save(here / "a.safetensors", first),
        files.save(here / "b.safetensors", second, files.adapter({"unet.lora_alpha": 6})),
        files.save(here / "c.safetensors", third),
    ]
    out = here / "m.safetensors"
    api.lora_merge([(p, 0.5) for p in paths], api.LoraMergeOptions(out=str(out)))
    a, b, c = (list(delta_of(path).values()) for path in paths)
    new = delta_of(out)
    assert error(new[TEXT], 0.5 * a[0]) < 1e-6
    assert error(new[UNET], 0.5 * a[1] + 0.5 * b[0]) < 1e-6
    assert error(new[CONV], 0.5 * c[0]) < 1e-6


def test_only_diffusers_files_give_one(here):
    path = "unet.mid_block.attentions.0.proj_in"
    for n in range(2):
        tensors = {
            f"{path}.lora_A.weight": np.ones((3, 5)),
            f"{path}.lora_B.weight": np.ones((6, 3)),
        }
        files.save(here / f"{n}.safetensors", tensors, files.adapter({"unet.lora_alpha": 6}))
    out = here / "m.safetensors"
    api.lora_merge([(here / f"{n}.safetensors", 1.0) for n in range(2)],
                   api.LoraMergeOptions(out=str(out)))  # fmt: skip
    lora = lora_file.read(out)
    assert lora.format == "diffusers" and lora.layers[0].alpha == 6
    assert np.allclose(algebra.delta(lora.layers[0]), 2 * 3 * 2)


def test_nothing_of_the_headers_is_lost(here):
    pair = files.pair(UNET, 6, 5, 2, 1.0)
    tags = [json.dumps({"5_x": {name: 3}}) for name in "ab"]
    headers = [
        {"ss_seed": str(n), "ss_base_model_version": "sd_v1", "ss_tag_frequency": tags[n],
         "modelspec.trigger_phrase": f"word{n}", "ss_output_name": f"lora{n}"}
        for n in range(2)
    ]  # fmt: skip
    paths = [files.save(here / f"{n}.safetensors", pair, headers[n]) for n in range(2)]
    out = here / "both.safetensors"
    api.lora_merge([(path, 0.5) for path in paths], api.LoraMergeOptions(out=str(out)))
    (info,) = api.lora_info([out]).files
    header = info.metadata
    assert header["ss_base_model_version"] == "sd_v1" and header["ss_output_name"] == "both"
    assert json.loads(header["ss_tag_frequency"]) == {"0/5_x": {"a": 3}, "1/5_x": {"b": 3}}
    assert header["modelspec.trigger_phrase"] == "word0, word1"
    differing = json.loads(header["dsk_merged_metadata"])
    assert differing == {
        "0": {"ss_seed": "0", "ss_output_name": "lora0"},
        "1": {"ss_seed": "1", "ss_output_name": "lora1"},
    }
    hashes = json.loads(header["modelspec.merged_from"])
    assert list(hashes) == ["0:0.5", "1:0.5"]
    assert hashes["0:0.5"] == api.lora_info([paths[0]]).files[0].model_hash
    assert info.hash_state == "true" and header["ss_network_dim"] == "4"


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [
        ("a.safetensors:0.8", "a.safetensors", 0.8),
        ("a.safetensors", "a.safetensors", 1),
        ("a.safetensors:-.5", "a.safetensors", -0.5),
        ("C:\\x\\a.safetensors", "C:\\x\\a.safetensors", 1),
        ("C:\\a.safetensors:2", "C:\\a.safetensors", 2),
        ("odd:1", "odd", 1),
    ],
)
def test_a_weight_stands_behind_the_last_colon(here, text, path, weight):
    assert (str(merge.split_weight(text)[0]), merge.split_weight(text)[1]) == (path, weight)


def test_a_file_whose_name_ends_like_a_weight_is_that_file(here):
    (here / "a:2").write_bytes(b"")
    assert merge.split_weight("a:2")[1] == 1
    with pytest.raises(ConfigError):
        merge.split_weight("b:inf")


def refused(dsk, here, code, what, *arguments):
    before = sorted(path.name for path in here.iterdir())
    ended = dsk("lora", "merge", *arguments)
    assert ended.code == code and what in ended.err, ended.err
    assert ended.err.startswith("error: ") and "\nhint: " in ended.err
    assert sorted(path.name for path in here.iterdir()) == before


def test_what_cannot_be_merged_is_refused(dsk, here):
    plain = files.pair(UNET, 6, 5, 2, 1.0)
    files.save(here / "a.safetensors", plain)
    files.save(here / "b.safetensors", plain | {f"{UNET}.dora_scale": np.ones((1, 5))})
    files.save(here / "c.safetensors", {f"{UNET}.diff": np.ones((6, 5))})
    files.save(
        here / "xl.safetensors", files.pair("lora_te2_text_model_encoder_layers_0_mlp_fc1", 6, 5, 2)
    )
    files.save(here / "wide.safetensors", files.pair(UNET, 6, 7, 2, 1.0))
    files.save(here / "nan.safetensors", plain | {f"{UNET}.alpha": np.nan})
    half = {k: v for k, v in plain.items() if "up" not in k}
    files.save(here / "half.safetensors", half)
    out = ("--out", "m.safetensors")
    refused(dsk, here, 2, "--out", "a.safetensors", "a.safetensors", "--out", "a.safetensors")
    refused(dsk, here, 2, "no new file", "a.safetensors")
    refused(dsk, here, 2, "is a DoRA", "a.safetensors", "b.safetensors", *out)
    refused(dsk, here, 2, "not a plain LoRA", "a.safetensors", "c.safetensors", *out)
    refused(dsk, here, 2, "Stable Diffusion XL", "a.safetensors", "xl.safetensors", *out)
    refused(dsk, here, 2, "6 x 5", "a.safetensors", "wide.safetensors", *out)
    refused(dsk, here, 12, "not finite", "a.safetensors", "nan.safetensors", *out)
    refused(dsk, here, 12, "lora_up.weight is missing", "a.safetensors", "half.safetensors", *out)
    refused(dsk, here, 12, "No such file", "a.safetensors", "missing.safetensors:0.5", *out)
    refused(dsk, here, 2, "needs the rank", "a.safetensors", "--how", "ties", *out)
    refused(
        dsk, here, 2, "keeps every rank", "a.safetensors", "--how", "concat", "--rank", "2", *out
    )
    refused(dsk, here, 2, "every weight is 0", "a.safetensors:0", *out)


def test_the_hints_for_other_methods_and_ranks_are_followed(dsk, here):
    files.save(here / "a.safetensors", files.pair(UNET, 6, 5, 2, 1.0))
    files.save(here / "c.safetensors", {f"{UNET}.diff": np.eye(6, 5)})
    arguments = ("lora", "merge", "a.safetensors", "c.safetensors:0.5", "--out", "m.safetensors")
    assert "--how svd --rank N" in dsk(*arguments).err
    assert dsk(*arguments, "--how", "svd", "--rank", "5").code == 0
    expected = delta_of(here / "a.safetensors")[UNET] + 0.5 * np.eye(6, 5)
    assert error(delta_of(here / "m.safetensors")[UNET], expected) < 1e-6
    assert dsk("undo").code == 0 and not (here / "m.safetensors").exists()


def test_sizes_that_differ_name_both_files(here):
    one = files.save(here / "a.safetensors", files.pair(UNET, 6, 5, 2, 1.0))
    two = files.save(here / "b.safetensors", files.pair(UNET, 6, 7, 2, 1.0))
    with pytest.raises(InputError) as raised:
        api.lora_merge([(one, 1.0), (two, 1.0)], api.LoraMergeOptions(out="m.safetensors"))
    assert "a.safetensors" in raised.value.message and "b.safetensors" in raised.value.message


@pytest.mark.parametrize(
    ("refused_with", "hint", "followed"),
    [
        ("", "--out merged.safetensors", "--out merged.safetensors"),
        ("--out m.safetensors --rank 2 --how concat", "leave out --rank, or take --how svd",
         "--out m.safetensors --rank 2 --how svd"),
        ("--out m.safetensors --how ties", "give --rank 32",
         "--out m.safetensors --how ties --rank 32"),
        ("--out m.safetensors --into a.safetensors --rank 2", "leave out --how and --rank", None),
        ("--out m.safetensors --blocks 1,2", "--blocks BASE=1,MID=0.5",
         "--out m.safetensors --blocks BASE=1,MID=0.5"),
    ],
)  # fmt: skip
def test_a_hint_about_the_options_is_followed(dsk, here, refused_with, hint, followed):
    files.save(here / "a.safetensors", files.pair(UNET, 6, 5, 2, 1.0))
    ended = dsk("lora", "merge", "a.safetensors", *refused_with.split())
    assert ended.code == 2 and hint in ended.err
    if followed is not None:
        ended = dsk("lora", "merge", "a.safetensors", *followed.split())
        assert ended.code == 0, ended.err


def test_blocks_of_another_family_are_left_out(dsk, here):
    files.save(here / "a.safetensors", files.pair("lora_unet_double_blocks_0_x", 6, 5, 2, 1.0))
    arguments = ("lora", "merge", "a.safetensors:0.5", "--out", "m.safetensors")
    ended = dsk(*arguments, "--blocks", "MID=1")
    assert ended.code == 2 and "leave out --blocks" in ended.err
    assert dsk(*arguments).code == 0
