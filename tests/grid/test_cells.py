"""The cells of a grid: which are one image, in which order they are drawn, their parameters."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from datasetkit.core.errors import ConfigError, InputError, ModelFileError
from datasetkit.images import labelled_sheet
from datasetkit.images.labelled_sheet import SheetHeading
from datasetkit.images.parameters import parameters
from tests.grid.test_axes import LAYER, prompt, run  # noqa: F401 - a fixture
from tests.lora_files.files import pair, save
from trainer.files import run_manifest
from trainer.files.run_manifest import RunFile, RunManifest
from trainer.grid import axes, cells, loras, page, sheets
from trainer.grid.axes import CellRequest, GridContent
from trainer.grid.cells import GridBase

BASE = GridBase("tiny", "abcdef0123456789", "no")


def made(given, content, *, compare_base=True):
    chosen = axes.chosen(given, content, compare_base=compare_base)
    start = CellRequest(base="tiny", lora=content.loras[0], prompt=content.prompts[0], clip_skip=1)
    named = [v.value for axis in chosen if axis.name == "base" for v in axis.values]
    return cells.build(chosen, start, dict.fromkeys(named or ["tiny"], BASE))


def test_an_image_that_stands_at_several_places_is_drawn_once(run):  # noqa: F811
    content = GridContent(loras.read([run]), (prompt(),))
    grid = made(("epoch=2,4", "weight=0.5,1", ""), content)
    assert len(grid.cells) == 6 and len(grid.unique) == 5
    assert grid.cells[0, 0, 0].file == grid.cells[0, 1, 0].file
    # one LoRA and weight after the other
    two = made(("seed=1,2", "epoch=2,4", ""), content)
    variants = [cell.variant for cell in two.unique.values()]
    assert variants == sorted(variants, key=list(dict.fromkeys(variants)).index)


def test_two_names_of_one_file_are_one_image(run):  # noqa: F811
    copy = run.parent / "copies"
    copy.mkdir(exist_ok=True)
    for name in ("k-000004", "k-best"):
        (copy / f"{name}.safetensors").write_bytes((run / "k-000004.safetensors").read_bytes())
    grid = made(("epoch", "", ""), GridContent(loras.read([copy]), (prompt(),)))
    assert len(grid.cells) == 3 and len(grid.unique) == 2


def test_what_changes_no_pixel_changes_no_name(run):  # noqa: F811
    content = GridContent(loras.read([run / "k.safetensors"]), (prompt(guidance=1.0),))
    cell = made(("weight=1", "", ""), content).cells[0, 0, 1]
    quiet = replace(
        cell, request=replace(cell.request, prompt=replace(cell.request.prompt, negative="bad"))
    )
    assert quiet.file == cell.file
    for other in ({"seed": 2}, {"steps": 3}, {"guidance": 2.0}, {"text": "x"}, {"width": 128}):
        changed = replace(cell.request, prompt=replace(cell.request.prompt, **other))
        assert replace(cell, request=changed).file != cell.file
    assert replace(cell, base=replace(BASE, hash="0")).file != cell.file
    assert replace(cell, request=replace(cell.request, clip_skip=2)).file != cell.file


def test_the_parameters_are_what_the_web_interfaces_read(run):  # noqa: F811
    content = GridContent(
        loras.read([run / "k.safetensors"]), (prompt(negative="bad", sampler="euler_a", steps=20),)
    )
    cell = made(("weight=0.8", "", ""), content).cells[0, 0, 1]
    short = content.loras[0].hash[:12]
    assert cell.parameters("datasetkit 1") == (
        "kitsu, 1girl <lora:k:0.8>\nNegative prompt: bad\nSteps: 20, Sampler: Euler a, "
        "CFG scale: 7.5, Seed: 1, Size: 64x64, Model hash: abcdef0123, Model: tiny, Clip skip: 1, "
        f'Lora hashes: "k: {short}", Version: datasetkit 1'
    )
    parts = replace(cell, request=replace(cell.request, weight=1.0, unet=0.5))
    assert "<lora:k:te=1:unet=0.5>" in parts.parameters("p")
    base = replace(cell, request=replace(cell.request, lora=None)).parameters("p")
    assert "lora" not in base.lower()


def test_a_value_with_a_comma_is_quoted():
    text = parameters(
        "p", "", steps=1, sampler="ddim", cfg=1, seed=0, size=(8, 8), model="a, b", model_hash="",
        clip_skip=1, program="x",
    )  # fmt: skip
    assert 'Model: "a, b"' in text and "Model hash" not in text


def test_too_many_cells_are_refused_before_they_are_made(run):  # noqa: F811
    content = GridContent(loras.read([run / "k.safetensors"]), (prompt(),))
    with pytest.raises(ConfigError, match="larger than 10,000"):
        made(("seed=1-500", "cfg=1-10 [20]", "steps=1-2"), content, compare_base=False)
    chosen = axes.chosen(("seed=1-500", "cfg=1-10 [20]"), content, compare_base=False)
    with pytest.raises(ConfigError, match="36 megapixels"):
        sheets.require_room(chosen)


# ---- which files


def test_a_folder_with_files_of_two_names_or_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no LoRA files"):
        loras.read([tmp_path])
    for name in ("a-000001", "a", "b"):
        save(tmp_path / f"{name}.safetensors", pair(LAYER, 8, 8, 2))
    with pytest.raises(InputError, match=r"LoRAs of 2 names: a, b"):
        loras.read([tmp_path])
    with pytest.raises(InputError, match="named twice"):
        loras.read([tmp_path / "a.safetensors", tmp_path / "a.safetensors"])
    with pytest.raises(InputError, match="no LoRA was given"):
        loras.read([])


@pytest.mark.parametrize("has_manifest", [True, False])
@pytest.mark.parametrize(
    ("saved", "drawn"),
    [
        (("", ".diffusers"), ("k-000001", "k-000002", "k")),
        ((".diffusers",), ("k-000001.diffusers", "k-000002.diffusers", "k.diffusers")),
        (("", ".kohya"), ("k-000001", "k-000002", "k")),
        ((".comfy",), ("k-000001.comfy", "k-000002.comfy", "k.comfy")),
    ],
)
def test_a_lora_that_was_saved_in_several_formats_is_drawn_once(
    tmp_path, saved, drawn, has_manifest
):
    """Also where no header says which epoch a file is of: the final one comes last."""
    names = [f"{stem}{form}" for stem in ("k", "k-000001", "k-000002") for form in saved]
    files = tuple(RunFile(f"{name}.safetensors", "lora") for name in names)
    for seed, file in enumerate(files):
        save(tmp_path / file.name, pair(LAYER, 8, 8, 2, seed=seed))
    if has_manifest:
        started = run_manifest.utc(0)
        run_manifest.write(tmp_path, RunManifest("k", started, files=files))
    read = loras.read([tmp_path])
    assert tuple(lora.name for lora in read) == drawn
    assert {lora.run for lora in read} == {"k"} and [lora.epoch for lora in read] == [1, 2, None]


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("cut.safetensors", None, ModelFileError),
        ("pickle.safetensors", b"PK\x03\x04" + bytes(50), ModelFileError),
        ("pickle.pt", b"\x80\x02" + bytes(50), ModelFileError),
        ("empty.safetensors", b"", ModelFileError),
    ],
)
def test_a_file_that_is_no_lora_gets_one_line(tmp_path, name, data, error):
    whole = save(tmp_path / "whole.safetensors", pair(LAYER, 8, 8, 2)).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2] if data is None else data)
    with pytest.raises(error) as raised:
        loras.read([tmp_path / name])
    assert "\n" not in raised.value.message and name in raised.value.message


def test_a_checkpoint_and_another_family_are_refused(tmp_path):
    key = "model.diffusion_model.input_blocks.0.0.weight"
    checkpoint = save(tmp_path / "model.safetensors", {key: [[1.0]]})
    with pytest.raises(ModelFileError, match="is a checkpoint, not a LoRA"):
        loras.read([checkpoint])
    sd1 = save(tmp_path / "sd1.safetensors", pair(LAYER, 8, 8, 2))
    xl = save(
        tmp_path / "xl.safetensors",
        pair("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q", 8, 8, 2),
    )
    with pytest.raises(InputError, match="is of Stable Diffusion XL"):
        loras.read([sd1, xl])
    flux = save(
        tmp_path / "flux.safetensors", pair("lora_unet_double_blocks_0_img_attn_qkv", 8, 8, 2)
    )
    with pytest.raises(InputError, match=r"is of Flux\.1 or Chroma"):
        loras.read([sd1, flux])
    unknown = save(tmp_path / "unknown.safetensors", pair("lora_unet_nothing_known", 8, 8, 2))
    with pytest.raises(InputError, match="the family of this LoRA is unknown"):
        loras.read([unknown])


# ---- contact sheets and the page


def test_labels_of_any_script_are_drawn_and_long_ones_wrapped():
    image = Image.new("RGB", (64, 64), "red")
    long = "一个女孩，狐狸耳朵，橙色头发，红色围巾，太阳镜，蓝色衬衫，黄色背景，微笑"
    columns = [SheetHeading("without", "the LoRA"), SheetHeading(long, "note", ("loss 0.04",))]
    rows = [SheetHeading(f"{'many words ' * 40}", "seed 1")]
    box = labelled_sheet.cell_box((64, 64), 2, 1, widest=512)
    assert box == (128, 128)
    sheet = labelled_sheet.draw("title", "facts", columns, rows, {(0, 1): image}, box)
    assert sheet.width < 600 and sheet.height < 320
    colours = {colour for _, colour in sheet.getcolors(2**20) or ()}
    assert (255, 0, 0) in colours and (238, 240, 243) in colours  # the image, the empty cell


def test_a_tall_image_gets_a_tall_cell():
    assert labelled_sheet.cell_box((512, 1024), 2, 2, widest=512) == (256, 512)
    assert labelled_sheet.cell_box((1024, 1024), 40, 40, widest=512) == (142, 142)


def test_text_of_files_and_prompts_cannot_become_html(run):  # noqa: F811
    evil = '</script><img src=x onerror="alert(1)"> "\'&'
    content = GridContent(loras.read([run]), (prompt(evil), prompt("狐")))
    grid = made(("epoch=2,4", "prompt", "seed=1,2"), content)
    text = page.html(grid, evil, evil, "datasetkit 1")
    assert "<img src=x" not in text and text.count("</script>") == 2
    assert "狐" in text and "\u202e" not in page.html(grid, "a\u202eb", "", "p")


def test_the_page_loads_nothing_but_the_images_beside_it(run):  # noqa: F811
    content = GridContent(loras.read([run]), (prompt(),))
    text = page.html(made(("epoch", "seed=1,2", ""), content), "t", "s", "p")
    assert "default-src 'none'" in text and "unsafe" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count('loading="lazy"') == 12 and 'src="images/base-' in text
    assert "style=" not in text and "onclick" not in text
