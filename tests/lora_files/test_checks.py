"""`dsk lora check` finds what is wrong with a LoRA file, and explains what is not."""

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasetkit import api
from tests.lora_files import files
from trainer.lora_files import checks, heat_map, lora_file
from trainer.lora_files.base_weights import open_base
from trainer.lora_files.layer_names import full_set, kohya
from trainer.lora_files.measure import measure

PROJ = "lora_unet_{}_blocks_{}_attentions_{}_proj_in"


def found(path, base=None):
    lora = lora_file.read(path)
    return checks.find_all(lora, measure(lora, base), base)


def messages(findings, level):
    return {f.check: f.message for f in findings if f.level == level}


def some(number=6, **given):
    """Return a few layers of one kind."""
    places = [("down", 0, 0), ("down", 0, 1), ("down", 1, 0), ("up", 1, 0), ("up", 1, 1)]
    places.append(("up", 2, 0))
    tensors: dict[str, Any] = {}
    for place in places[:number]:
        tensors |= files.pair(PROJ.format(*place), 6, 5, 2, 1.0, **given)
    return tensors


def test_a_sound_file_has_notes_only(tmp_path):
    findings = found(files.save(tmp_path / "a.safetensors", files.whole_sd1(), {"ss_x": "1"}))
    assert {f.level for f in findings} == {"note"}
    notes = messages(findings, "note")
    assert notes["family"] == "layers: UNet 192 of 192, text encoder 72 of 72"
    assert "dsk lora resize --fro 0.95 would keep rank" in notes["rank use"]


@pytest.mark.long
@pytest.mark.parametrize(("skip", "dead_from", "number"), [(2, 11, 6), (3, 10, 12)])
def test_layers_behind_the_clip_skip_are_explained(tmp_path, skip, dead_from, number):
    path = files.save(
        tmp_path / "a.safetensors",
        files.whole_sd1(dead_from=dead_from),
        {"ss_clip_skip": str(skip)},
    )
    findings = found(path)
    assert messages(findings, "warning") == {}
    assert messages(findings, "note")["dead"] == (
        f"{number} layers without effect, as expected: layer "
        f"{', '.join(map(str, range(dead_from, 12)))} of the text encoder; they are behind clip "
        f"skip {skip}"
    )


@pytest.mark.long
def test_a_dead_layer_before_the_clip_skip_is_a_warning(tmp_path):
    path = files.save(
        tmp_path / "a.safetensors", files.whole_sd1(dead_from=10), {"ss_clip_skip": "2"}
    )
    findings = found(path)
    assert messages(findings, "note")["dead"].startswith("6 layers without effect, as expected")
    assert messages(findings, "warning")["dead"].startswith(
        "6 layers of 264 without effect (lora_up is zero)"
    )


@pytest.mark.long
def test_without_a_stated_clip_skip_the_one_that_would_explain_it_is_named(tmp_path):
    path = files.save(tmp_path / "a.safetensors", files.whole_sd1(dead_from=11))
    assert "clip skip 2 would explain it" in messages(found(path), "warning")["dead"]


@pytest.mark.long
def test_the_last_layer_of_sdxls_first_text_encoder_is_explained(tmp_path):
    tensors: dict[str, Any] = {}
    for name in sorted(full_set("sdxl")):
        if name.part != "unet":
            tensors |= files.pair(kohya(name, "sdxl"), 6, 5, 2, 1.0)
            if name.block == "11" and name.part == "text_encoder":
                tensors[f"{kohya(name, 'sdxl')}.lora_up.weight"] = np.zeros((6, 2))
    findings = found(files.save(tmp_path / "a.safetensors", tensors))
    assert messages(findings, "warning") == {}
    assert "6 layers without effect, as expected: layer 11" in messages(findings, "note")["dead"]


@pytest.mark.parametrize("factor", ["lora_up", "lora_down"])
def test_more_than_half_without_effect_is_an_error_that_names_the_factor(tmp_path, factor):
    tensors = some()
    for key in [key for key in tensors if factor in key][:4]:
        tensors[key] = np.zeros_like(tensors[key])
    findings = found(files.save(tmp_path / "a.safetensors", tensors))
    assert messages(findings, "error")["dead"].startswith(
        f"4 layers of 6 without effect ({factor} is zero)"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named_with_its_place(tmp_path, value):
    tensors = some()
    key = next(key for key in tensors if "up_blocks_2" in key and "lora_up" in key)
    tensors[key][3, 1] = value
    finding = messages(found(files.save(tmp_path / "a.safetensors", tensors)), "error")["finite"]
    assert finding == f"1 layer with numbers that are not finite: {key}[3, 1] is {value}"


def test_an_alpha_that_is_not_finite_is_an_error(tmp_path):
    tensors = some() | {f"{PROJ.format('down', 0, 0)}.alpha": np.nan}
    assert (
        "alpha[] is nan"
        in messages(found(files.save(tmp_path / "a.safetensors", tensors)), "error")["finite"]
    )


def test_missing_tensors_alphas_and_other_keys(tmp_path):
    tensors = some()
    del tensors[f"{PROJ.format('down', 0, 0)}.lora_up.weight"]
    del tensors[f"{PROJ.format('up', 2, 0)}.alpha"]
    tensors["extra"] = np.ones(3)
    findings = found(files.save(tmp_path / "a.safetensors", tensors))
    assert messages(findings, "error")["complete"].endswith("lora_up.weight is missing")
    assert messages(findings, "warning")["complete"] == "1 tensor of no layer, such as extra"
    assert "1 layer without alpha" in messages(findings, "note")["complete"]


def test_underflow_is_a_share_of_exact_zeros_in_fp16(tmp_path):
    small = some(scale=1e-7)
    findings = found(files.save(tmp_path / "a.safetensors", small, dtype="F16"))
    assert "of the fp16 numbers are exactly 0" in messages(findings, "warning")["underflow"]
    for dtype in ("BF16", "F32"):
        findings = found(files.save(tmp_path / f"{dtype}.safetensors", small, dtype=dtype))
        assert "underflow" not in messages(findings, "warning")


def test_an_outlier_is_one_among_layers_of_its_kind(tmp_path):
    tensors = some()
    key = f"{PROJ.format('up', 2, 0)}.lora_up.weight"
    tensors[key] = 50 * tensors[key]
    other = files.pair("lora_unet_mid_block_resnets_0_conv1", 6, (5, 3, 3), 2, 1.0, scale=1000)
    findings = found(files.save(tmp_path / "a.safetensors", tensors | other))
    assert messages(findings, "warning")["outliers"].startswith(
        "1 layer changing more than 10 times the median of the kind: lora_unet_up_blocks_2_"
    )


@pytest.mark.long
def test_names_of_another_model_and_holes_are_warnings(tmp_path):
    tensors = some() | files.pair(PROJ.format("up", 0, 0), 6, 5, 2, 1.0)
    tensors |= files.pair("lora_unet_new_layer", 6, 5, 2, 1.0)
    findings = list(found(files.save(tmp_path / "a.safetensors", tensors)))
    foreign = {f.keys for f in findings if f.level == "warning" and f.check == "family"}
    assert foreign == {("lora_unet_new_layer",), (PROJ.format("up", 0, 0),)}
    whole = files.whole_sd1()
    hole = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_k"
    for end in ("lora_up.weight", "lora_down.weight", "alpha"):
        del whole[f"{hole}.{end}"]
    warning = messages(found(files.save(tmp_path / "b.safetensors", whole)), "warning")["family"]
    assert warning.startswith("1 layer missing beside others of the same block")
    assert warning.endswith("attn1.to_k")


@pytest.mark.long
def test_a_lora_without_whole_kinds_or_blocks_has_no_holes(tmp_path):
    attention_only = {k: v for k, v in files.whole_sd1().items() if "_attn" in k or "_te_" in k}
    assert messages(found(files.save(tmp_path / "a.safetensors", attention_only)), "warning") == {}
    few_blocks = {k: v for k, v in files.whole_sd1().items() if "up_blocks_1" in k}
    assert messages(found(files.save(tmp_path / "b.safetensors", few_blocks)), "warning") == {}


def test_another_family_is_measured_and_not_compared(tmp_path):
    tensors = files.pair("lora_unet_double_blocks_0_img_attn_qkv", 6, 5, 2, 1.0)
    findings = found(files.save(tmp_path / "a.safetensors", tensors))
    assert "family Flux.1 or Chroma" in messages(findings, "note")["family"]
    assert messages(findings, "warning") == {}


def test_a_stale_hash_is_a_warning(tmp_path):
    path = files.save(
        tmp_path / "a.safetensors", some(), {"ss_x": "1", "sshs_model_hash": "0" * 64}
    )
    assert messages(found(path), "warning")["metadata"].startswith(
        "sshs_model_hash is 000000000000 and the tensors have "
    )


def test_a_rank_in_the_header_that_the_layers_do_not_have_is_a_warning(tmp_path):
    path = "unet.mid_block.attentions.0.proj_in"
    tensors = {f"{path}.lora_A.weight": np.ones((2, 5)), f"{path}.lora_B.weight": np.ones((6, 2))}
    facts = files.adapter({"unet.r": 8, "unet.lora_alpha": 4})
    warning = messages(found(files.save(tmp_path / "a.safetensors", tensors, facts)), "warning")
    assert warning["metadata"].startswith("the header says rank 8 for the UNet")


def test_with_a_base_norms_are_shares_of_its_weights(tmp_path):
    base = open_base("tiny")
    name, weight = next((n, w) for n, w in base.layers.items() if n.kind == "attn1.to_q")
    out, ins = weight.shape
    tensors = files.pair(kohya(name, "sd1"), out, ins, 2, 2.0)
    tensors |= files.pair(PROJ.format("down", 0, 0), 6, 5, 2, 1.0)
    path = files.save(tmp_path / "a.safetensors", tensors)
    lora = lora_file.read(path)
    shares = {m.key: m.relative for m in measure(lora, base)}
    delta = (
        tensors[f"{kohya(name, 'sd1')}.lora_up.weight"]
        @ tensors[f"{kohya(name, 'sd1')}.lora_down.weight"]
    )
    expected = np.linalg.norm(delta) / np.linalg.norm(weight.matrix())
    assert shares[kohya(name, "sd1")] == pytest.approx(expected, rel=1e-5)
    assert shares[PROJ.format("down", 0, 0)] is None
    assert "1 layer that weights does not have" in messages(found(path, base), "warning")["family"]


@pytest.mark.parametrize("change", ["out", "ins"])
def test_layers_of_another_size_than_the_bases_are_an_error(tmp_path, change):
    base = open_base("tiny")
    names = [n for n in base.layers if n.kind in ("attn1.to_q", "attn2.to_k")][:3]
    tensors: dict[str, Any] = {}
    for number, name in enumerate(names):
        out, ins = base.layers[name].matrix_size
        if number:
            out, ins = (out + 2, ins) if change == "out" else (out, ins - 1)
        tensors |= files.pair(kohya(name, "sd1"), out, ins, 2, 2.0)
    path = files.save(tmp_path / "a.safetensors", tensors)
    message = messages(found(path, base), "error")["size"]
    assert message.startswith("2 layers of another size than in weights: lora_unet_")
    assert "size" not in messages(found(path), "error")
    measures = measure(lora_file.read(path), base)
    assert sum(m.relative is not None for m in measures) == 1


def test_sizes_of_full_matrices_are_compared_too(tmp_path):
    base = open_base("tiny")
    name = next(n for n in base.layers if n.kind == "attn1.to_q")
    path = files.save(tmp_path / "a.safetensors", {f"{kohya(name, 'sd1')}.diff": np.ones((3, 2))})
    assert "is 3 x 2, and there it is" in messages(found(path, base), "error")["size"]


# ---- the command


def test_the_exit_codes_of_the_check(dsk, here):
    files.save(here / "good.safetensors", some())
    files.save(here / "stale.safetensors", some(), {"ss_x": "1", "sshs_model_hash": "0" * 64})
    broken = some()
    del broken[f"{PROJ.format('down', 0, 0)}.lora_up.weight"]
    files.save(here / "broken.safetensors", broken)
    assert dsk("lora", "check", "good.safetensors").code == 0
    assert dsk("lora", "check", "good.safetensors", "--strict").code == 0
    assert dsk("lora", "check", "stale.safetensors").code == 0
    assert dsk("lora", "check", "good.safetensors", "stale.safetensors", "--strict").code == 20
    ended = dsk("lora", "check", "good.safetensors", "broken.safetensors", "--json")
    assert ended.code == 3
    assert [len(file["findings"]) > 0 for file in ended.result["files"]] == [True, True]
    assert ended.result["files"][1]["findings"][0]["level"] == "error"


@pytest.mark.parametrize("verb", ["info", "check"])
def test_a_file_that_is_not_a_lora_ends_with_12(dsk, here, verb):
    (here / "folder").mkdir()
    (here / "a.pt").write_bytes(b"PK\x03\x04" + bytes(99))
    files.save(here / "base.safetensors", {"model.diffusion_model.x.weight": np.ones((2, 2))})
    files.save(here / "good.safetensors", some())
    cut = here / "cut.safetensors"
    cut.write_bytes((here / "good.safetensors").read_bytes()[:-1])
    for name in ("folder", "a.pt", "base.safetensors", "cut.safetensors", "missing.safetensors"):
        ended = dsk("lora", verb, "good.safetensors", name)
        assert ended.code == 12 and ended.out == ""
        first, second = ended.err.splitlines()
        assert first.startswith("error: ") and name in first and second.startswith("hint: ")


@pytest.mark.long
def test_a_heat_map_is_written_and_undone(dsk, here):
    files.save(here / "a.safetensors", some())
    files.save(here / "b.safetensors", files.whole_sd1(dead_from=11))
    arguments = ("lora", "check", "a.safetensors", "b.safetensors", "--plot", "norms.png")
    assert dsk(*arguments, "--dry-run").code == 0
    assert not (here / "norms.png").exists() and not (here / ".dsk").exists()
    ended = dsk(*arguments)
    assert "wrote norms.png" in ended.out
    png = (here / "norms.png").read_bytes()
    assert Image.open(io.BytesIO(png)).width > 900
    assert "norms.png unchanged" in dsk(*arguments).out
    assert dsk("undo").code == 0 and not (here / "norms.png").exists()


def test_a_heat_map_that_cannot_be_drawn_is_refused(dsk, here):
    files.save(here / "a.safetensors", some())
    ended = dsk("lora", "check", "a.safetensors", "--plot", "a.jpg")
    assert ended.code == 2 and "--plot a.png" in ended.err
    assert dsk("lora", "check", "a.safetensors", "--plot", "a.png").code == 0
    assert dsk("lora", "check", *["a.safetensors"] * 5, "--plot", "a.png").code == 2
    (here / "mine.png").write_bytes(b"mine")
    ended = dsk("lora", "check", "a.safetensors", "--plot", "mine.png")
    assert ended.code == 2 and (here / "mine.png").read_bytes() == b"mine"


def test_two_files_share_one_scale(tmp_path):
    weak, strong = some(), some(scale=100.0)
    maps = []
    for n, tensors in enumerate((weak, strong)):
        lora = lora_file.read(files.save(tmp_path / f"{n}.safetensors", tensors))
        maps.append(measure(lora))

    def colours(image):
        return {colour for _, colour in image.getcolors(10**6) or ()}

    alone = Image.open(io.BytesIO(heat_map.draw([("weak", maps[0])]))).convert("RGB")
    both = Image.open(io.BytesIO(heat_map.draw([("weak", maps[0]), ("strong", maps[1])])))
    assert both.height == alone.height
    dark = (8, 29, 88)  # the end of the scale
    assert dark in colours(alone)
    half = both.convert("RGB").crop((0, 0, both.width // 2, both.height))
    assert dark not in colours(half)


def test_info_says_what_a_file_is(dsk, here):
    frequency = json.dumps({"5_a": {"kitsu": 24, "smile ": 3}, "7_b": {"smile": 9, "x": "y"}})
    metadata = {
        "ss_network_dim": "2", "ss_tag_frequency": frequency, "ss_clip_skip": "2", "ss_vae": "None",
    }  # fmt: skip
    conv = files.pair("lora_unet_mid_block_resnets_0_conv1", 6, (5, 3, 3), 4, 1.0)
    path = files.save(here / "a.safetensors", some() | conv, metadata, dtype="BF16")
    (file,) = api.lora_info([path]).files
    assert (file.family, file.format, file.layers) == ("Stable Diffusion 1", "kohya", 7)
    assert file.methods == {"LoRA": 6, "LoCon": 1} and file.ranks == {2: 6, 4: 1}
    assert file.precisions == {"bf16": file.parameters}
    assert file.tags == {"kitsu": 24, "smile": 12}
    assert file.hash_state == "true"
    assert file.training == {"network dim": "2", "clip skip": "2"}
    printed = dsk("lora", "info", "a.safetensors").out
    assert "rank          2 (6 layers), 4 (1 layer)" in printed
    assert "kitsu 24, smile 12" in printed
    assert dsk("lora", "info", "a.safetensors", "--json").result["files"][0]["layers"] == 7


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": 3}', '{"a": {"b": [1]}}', "[" * 100_000])
def test_tags_that_cannot_be_read_are_none(here, text):
    path = files.save(here / "a.safetensors", some(), {"ss_tag_frequency": text})
    assert api.lora_info([path]).files[0].tags == {}


def test_neither_command_loads_torch():
    import subprocess
    import sys

    program = (
        "import sys; from datasetkit import api; api.lora_info([]); "
        "api.lora_check([], api.LoraCheckOptions()); "
        "print([m for m in ('torch', 'safetensors', 'matplotlib') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout == "[]\n", ended.stderr
