"""`dsk grid` as a command: a second run draws what is missing, nothing else is touched."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.core.errors import ConfigError, InputError, PlanConflict
from datasetkit.project.session import RunContext
from tests.cli.conftest import dsk, here, toy_tagger  # noqa: F401 - fixtures
from tests.grid.test_axes import LAYER
from tests.lora_files.files import pair, save
from trainer.grid import draw


class Drawer:
    """Draws a flat colour instead of an image, and counts."""

    drawn: list[str] = []  # noqa: RUF012 - of all drawers
    fails_after = 10**6

    def __init__(self, load):
        pass

    def model_of(self, cell):
        pass

    def draw(self, cell):
        if len(Drawer.drawn) >= Drawer.fails_after:
            raise KeyboardInterrupt
        Drawer.drawn.append(cell.file)
        prompt = cell.request.prompt
        shade = int(cell.key[:2], 16), int(cell.key[2:4], 16), 90
        return Image.new("RGB", (prompt.width, prompt.height), shade)


@pytest.fixture
def drawer(monkeypatch):
    Drawer.drawn.clear()
    monkeypatch.setattr(Drawer, "fails_after", 10**6)
    monkeypatch.setattr(draw, "GridDrawer", Drawer)
    return Drawer


@pytest.fixture
def run(here):  # noqa: F811
    for n, epoch in enumerate((2, 4)):
        header = {"ss_epoch": str(epoch), "ss_resolution": "(64, 128)", "ss_clip_skip": "2"}
        save(here / f"out/k-{epoch:06d}.safetensors", pair(LAYER, 8, 8, 2, seed=n), header)
    return here / "out"


def options(**given):
    base: dict[str, Any] = {"base": "tiny", "prompt": ("kitsu",), "steps": 3, "seed": 0}
    return api.GridOptions(**base | given)


def files(folder):
    paths = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return sorted(p.as_posix() for p in paths if ".dsk" not in p.parts)


def test_a_grid_has_images_sheets_a_page_and_a_record(run, drawer):
    result = api.grid(run, options(y="weight=0.5,1", z="seed=1-2"))
    out = run / "grid"
    assert result.images == 10 and len(result.drawn) == 10 and result.kept == 0
    assert [axis.name for axis in result.axes] == ["epoch", "weight", "seed"]
    assert [path.name for path in result.contact_sheets] == [
        "grid-01-seed-1.png",
        "grid-02-seed-2.png",
    ]
    assert all(path.is_file() for path in (*result.drawn, *result.contact_sheets, result.page))
    lines = [json.loads(line) for line in (out / "grid.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == 10
    base = next(line for line in lines if not line["lora"])
    assert (base["width"], base["height"], base["clip_skip"]) == (64, 128, 2)
    assert len(base["at"]) == 2 and base["at"][0]["epoch"] == "without"
    with Image.open(out / lines[-1]["file"]) as image:
        assert "<lora:k-000004:1>" in image.info["parameters"]
    assert str(run.parent) not in (out / "grid.jsonl").read_text("utf-8")
    assert str(run.parent) not in result.page.read_text("utf-8")


def test_a_second_run_draws_only_what_is_missing(run, drawer):
    api.grid(run, options())
    before = {path: (run / "grid" / path).read_bytes() for path in files(run / "grid")}
    drawer.drawn.clear()
    again = api.grid(run, options())
    assert drawer.drawn == [] and not again.changed and again.entry is None
    more = api.grid(run, options(y="seed=0,7"))
    assert len(drawer.drawn) == 3 and more.kept == 3 and more.changed
    images = [name for name in before if name.startswith("images/")]
    assert all((run / "grid" / name).read_bytes() == before[name] for name in images)


def test_an_interrupted_grid_goes_on_and_is_the_same(run, drawer, monkeypatch):
    monkeypatch.setattr(drawer, "fails_after", 2)
    with pytest.raises(KeyboardInterrupt):
        api.grid(run, options())
    assert len(files(run / "grid")) == 2
    monkeypatch.setattr(drawer, "fails_after", 10**6)
    result = api.grid(run, options())
    assert result.kept == 2 and len(result.drawn) == 1
    whole = api.grid(run, options(out=str(run.parent / "whole")))
    assert files(whole.folder) == files(result.folder)
    for name in files(whole.folder):
        if name not in ("index.html", "grid.jsonl") and not name.startswith(".dsk"):
            assert (whole.folder / name).read_bytes() == (result.folder / name).read_bytes(), name
    # The record also says where the LoRAs are, as seen from the grid.
    records = [
        [json.loads(line) for line in (each.folder / "grid.jsonl").read_text("utf-8").splitlines()]
        for each in (whole, result)
    ]
    folders = [{line.pop("lora_folder") for line in lines} - {""} for lines in records]
    assert folders == [{str(run)}, {".."}] and records[0] == records[1]


def test_a_damaged_cell_is_drawn_again(run, drawer):
    result = api.grid(run, options())
    path = result.drawn[1]
    data = path.read_bytes()
    path.write_bytes(data[:-6])
    drawer.drawn.clear()
    assert api.grid(run, options()).drawn == (path,)
    assert path.read_bytes() == data


def test_files_that_dsk_did_not_write_are_not_touched(run, drawer):
    (run / "grid").mkdir()
    (run / "grid" / "index.html").write_text("mine")
    with pytest.raises(PlanConflict, match="did not write"):
        api.grid(run, options())
    assert files(run / "grid") == ["index.html"]
    result = api.grid(run, options(out=str(run / "other")))
    Image.new("RGB", (8, 8)).save(result.drawn[0])
    with pytest.raises(PlanConflict, match="did not write"):
        api.grid(run, options(out=str(run / "other")))


def test_undo_takes_a_grid_away_and_then_brings_an_earlier_page_back(run, drawer):
    api.grid(run, options())
    page = (run / "grid" / "index.html").read_bytes()
    more = api.grid(run, options(y="seed=0,7"))
    assert more.first_entry is not None and more.entry == more.first_entry + 1
    api.undo(run, more.first_entry)
    assert (run / "grid" / "index.html").read_bytes() == page
    assert len(files(run / "grid")) == 3 + 3
    api.undo(run)
    assert not (run / "grid").exists() or files(run / "grid") == []


def test_the_history_of_a_grid_elsewhere_is_in_its_own_folder(run, drawer, tmp_path):
    out = tmp_path / "elsewhere" / "look"
    api.grid(run, options(out=str(out)))
    assert [path.name for path in out.parent.iterdir()] == ["look"]
    api.undo(out)
    assert not (out / "index.html").exists()


def test_a_dry_run_writes_nothing_and_loads_no_model(run, drawer):
    before = files(run.parent)
    result = api.grid(run, options(), RunContext(dry_run=True))
    assert files(run.parent) == before and drawer.drawn == []
    assert (result.images, result.steps) == (3, 9)


def test_an_option_counts_before_a_flag_and_a_flag_before_the_default(run, drawer):
    written = ("kitsu --s 5 --l 3 --d 9 --w 128", "1girl")
    given = {"prompt": written, "steps": None, "seed": 40, "cfg": 2.0}
    api.grid(run, options(**given))
    text = (run / "grid/grid.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    kitsu = next(line for line in lines if line["text"] == "kitsu")
    other = next(line for line in lines if line["text"] == "1girl")
    assert (kitsu["steps"], kitsu["guidance"], kitsu["seed"], kitsu["width"]) == (5, 2.0, 40, 128)
    assert (other["steps"], other["seed"], other["width"]) == (30, 41, 64)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"base": ""}, ConfigError, "no base model"),
        ({"prompt": ()}, ConfigError, "no prompt"),
        ({"prompts": "none.txt"}, ConfigError, "both given"),
        ({"prompt": (), "prompts": "none.txt"}, ConfigError, "prompts = none.txt"),
        ({"x": "epoh"}, ConfigError, "there is no axis epoh"),
        ({"prompt": ("kitsu --w 65",)}, ConfigError, "prompt 1: --w 65"),
        ({"out": "file"}, InputError, "not a folder"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_written(run, drawer, given, error, message):
    (run.parent / "file").write_text("x")
    before = files(run.parent)
    with pytest.raises(error, match=message):
        api.grid(run, options(**given))
    assert files(run.parent) == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["out", "--x", "epoh"], 2),
        (["empty"], 2),
        (["nothing.safetensors"], 12),
        (["pickle.safetensors"], 12),
        (["out", "--base", "none.safetensors"], 12),
        (["xl.safetensors", "--base", "tiny"], 2),
    ],
)
def test_the_command_ends_with_one_line_and_its_code(run, drawer, dsk, arguments, code):  # noqa: F811
    (run.parent / "empty").mkdir()
    (run.parent / "pickle.safetensors").write_bytes(b"PK\x03\x04" + bytes(20))
    key = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    save(run.parent / "xl.safetensors", pair(key, 8, 8, 2))
    given = [] if "--base" in arguments else ["--base", "tiny"]
    ended = dsk("grid", *arguments, *given, "--prompt", "kitsu")
    assert ended.code == code
    assert re.fullmatch(r"error: [^\n]+\nhint: [^\n]+\n", ended.err), ended.err


def test_the_command_prints_axes_and_where_to_look(run, drawer, dsk):  # noqa: F811
    ended = dsk("grid", "out", "--base", "tiny", "--prompt", "kitsu", "--y", "weight=0.5,1")
    assert ended.code == 0
    assert "epoch        3  without | epoch 2 | epoch 4" in ended.out
    assert "drew 5 images" in ended.out and "open out/grid/index.html in a browser" in ended.out
    again = dsk(
        "grid", "out", "--base", "tiny", "--prompt", "kitsu", "--y", "weight=0.5,1", "--json"
    )
    assert again.result["images"] == 5 and again.result["changed"] is False
