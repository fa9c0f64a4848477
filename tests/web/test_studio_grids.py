"""The tab Compare over HTTP: grids, marks, previews, keeping a file; and files of somebody else."""

from __future__ import annotations

import io
import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.cli.main import run
from datasetkit.images import pixels
from datasetkit.images.parameters import TEXT_KEY
from datasetkit.verbs.studio import grid_files
from tests.grid.test_axes import LAYER
from tests.grid.test_grid import Drawer
from tests.keep.readers import a1111
from tests.lora_files.files import pair, save
from tests.safety.harness import tree
from tests.web.client import Browser, Response, studio
from trainer.grid import draw


@pytest.fixture
def page(tmp_path, monkeypatch) -> Iterator[Browser]:
    """A project with a run of two epochs and a grid of them at two weights."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(draw, "GridDrawer", Drawer)
    folder = tmp_path / "project"
    for n, epoch in enumerate((2, 4)):
        header = {"ss_epoch": str(epoch), "ss_resolution": "(64, 64)", "ss_steps": str(epoch * 10),
                  "ss_base_model_version": "sd_v1", "ss_network_module": "networks.lora",
                  "ss_dataset_dirs": '{"5_kitsu": {}}',
                  "ss_tag_frequency": '{"5_kitsu": {"kitsu": 3}}'}  # fmt: skip
        save(folder / "out" / f"k-{epoch:06d}.safetensors", pair(LAYER, 8, 8, 2, seed=n), header)
    (folder / "dsk.toml").write_text("[train]\noutput_dir = 'out'\n")
    options = api.GridOptions(
        base="tiny", prompt=("kitsu",), steps=3, seed=0, size=(64, 64), y="weight=0.5,1"
    )
    api.grid(folder / "out", options)
    with studio(folder) as browser:
        yield browser


def load(page: Browser, path: str) -> Response:
    return page.ask("GET", path, headers={"Cookie": page.cookie})


def the_grid(page: Browser) -> dict[str, Any]:
    (entry,) = page.get("grids")["grids"]
    grid: dict[str, Any] = page.get(f"grids/{entry['id']}")
    return grid


def keep(page: Browser, *, status: int = 200, dry_run: bool = False, **request: Any) -> Any:
    body = {"dry_run": dry_run, **request}
    response = page.ask("POST", "/api/loras/keep", json.dumps(body).encode(), page.headers)
    assert response.status == status, response.body
    return response.json


def test_a_grid_is_a_table_of_cells_by_number(page):
    (entry,) = page.get("grids")["grids"]
    assert (entry["kind"], entry["images"], entry["missing"]) == ("grid", 5, 0)
    grid = the_grid(page)
    assert [(axis["name"], axis["values"]) for axis in grid["axes"]] == [
        ("epoch", ["without", "epoch 2", "epoch 4"]), ("weight", ["weight 0.5", "weight 1"])
    ]  # fmt: skip
    positions = sorted(tuple(at) for cell in grid["cells"] for at in cell["at"])
    assert positions == [(x, y) for x in range(3) for y in range(2)]
    base = next(cell for cell in grid["cells"] if cell["file"] is None)
    assert len(base["at"]) == 2 and (base["w"], base["h"]) == (64, 64)
    assert [file["label"] for file in grid["files"]] == ["epoch 2", "epoch 4"]
    assert (grid["trigger"], grid["family"]) == (["kitsu"], "Stable Diffusion 1")
    assert all(cell["settings"]["seed"] == 0 for cell in grid["cells"])
    assert grid["command"] == (
        "dsk grid out --x epoch=2,4 --y weight=0.5,1 --prompt kitsu --negative '' "
        "--size 64x64 --seed 0 --steps 3 --cfg 7.5 --sampler ddim"
    )
    assert str(page.folder) not in json.dumps({**grid, "folder": ""})


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"baseline": False, "cfg": 4, "steps": 5, "negative": "blurry, text", "seed": 7},
        {"y": "prompt", "prompt": ("kitsu", "kitsu, from behind"), "size": (64, 128)},
        {"y": "seed=1,2", "out": "out/a"},
        {"y": "cfg=3,5", "z": "steps=2,4", "sampler": "euler"},
        {"y": "sr=kitsu,fox", "prompt": ("kitsu, smile",)},
    ],
)
def test_the_command_of_a_grid_draws_its_images(page, options, monkeypatch):
    monkeypatch.chdir(page.folder)
    usual = {"base": "tiny", "prompt": ("kitsu",), "steps": 3, "seed": 0, "size": (64, 64)}
    before = {entry["id"] for entry in page.get("grids")["grids"]}
    api.grid("out", api.GridOptions(**(usual | {"out": "out/new grid"} | options)))
    (number,) = {entry["id"] for entry in page.get("grids")["grids"]} - before
    command = page.get(f"grids/{number}")["command"]
    folder = Path(options.get("out", "out/new grid"))
    drawn = {path.name for path in (folder / "images").iterdir()}
    shutil.rmtree(folder)
    assert run([*shlex.split(command)[1:], "--base", "tiny"]) == 0, command
    assert {path.name for path in (folder / "images").iterdir()} == drawn


@pytest.mark.parametrize(
    ("loras", "options", "begins"),
    [
        ("out", {"out": "shown/a grid"}, "dsk grid out --x epoch=2,4 "),
        ("{elsewhere}", {"out": "shown/grid"}, "dsk grid {elsewhere} --x epoch=2,4 "),
        ("out/k-000004.safetensors", {"x": "weight=0.5,1"}, "dsk grid out/k-000004.safetensors "),
        ("out/k-000004.safetensors", {"out": "out/grid/one", "x": "seed=1,2"},
         "dsk grid out --x lora=k-000004 --y seed=1,2 "),
    ],
)  # fmt: skip
def test_a_grid_names_its_loras_wherever_it_lies(
    page, loras, options, begins, monkeypatch, tmp_path
):
    monkeypatch.chdir(page.folder)
    shutil.copytree(page.folder / "out", tmp_path / "home" / "lo ras")
    shutil.rmtree("out/grid")
    elsewhere = str(tmp_path / "home" / "lo ras")
    loras = loras.format(elsewhere=elsewhere)
    usual = {"base": "tiny", "prompt": ("kitsu",), "steps": 3, "seed": 0, "size": (64, 64)}
    folder = api.grid(loras, api.GridOptions(**(usual | options))).folder
    grid = the_grid(page)
    assert grid["command"].startswith(begins.format(elsewhere=shlex.quote(elsewhere)))
    assert all(file["there"] for file in grid["files"]) and grid["trigger"] == ["kitsu"]
    keep(page, grid=grid["id"], file=0, cell=None, options={"to": "kept"})
    record = (folder / "grid.jsonl").read_text("utf-8")
    assert (elsewhere in record) == (loras == elsewhere) and str(page.folder) not in record
    drawn = {path.name for path in (folder / "images").iterdir()}
    shutil.rmtree(folder)
    assert run([*shlex.split(grid["command"])[1:], "--base", "tiny"]) == 0
    assert {path.name for path in (folder / "images").iterdir()} == drawn


def test_a_cell_is_its_own_pixels_or_a_smaller_jpeg(page):
    grid = the_grid(page)
    cell = grid["cells"][1]
    address = f"/cell/{grid['id']}/{cell['n']}?v={cell['v']}"
    whole, small = load(page, address), load(page, f"{address}&side=32")
    assert whole.headers["content-type"] == "image/png" and "immutable" in str(whole.headers)
    with Image.open(io.BytesIO(whole.body)) as image:
        assert image.size == (64, 64)
    with Image.open(io.BytesIO(small.body)) as image:
        assert (image.size, image.format) == ((32, 32), "JPEG")


def test_the_project_is_searched_once_for_all_cells_of_a_grid(page, monkeypatch):
    searches = []

    def search(root):
        searches.append(root)
        return find_grids(root)

    find_grids = grid_files.find_grids
    monkeypatch.setattr(grid_files, "find_grids", search)
    grid = the_grid(page)
    searches.clear()
    addresses = [f"/cell/{grid['id']}/{cell['n']}" for cell in grid["cells"]]
    assert {load(page, address).status for address in addresses} == {200} and not searches
    folder = page.folder / "out"
    folder.rename(page.folder.parent / "elsewhere")
    assert load(page, addresses[0]).status == 404
    folder.symlink_to(page.folder.parent / "elsewhere")
    assert load(page, addresses[0]).status == 404


def test_marks_are_kept_in_a_file_and_undone(page):
    grid = the_grid(page)
    address = f"grids/{grid['id']}/marks"
    assert page.post(address, cell=1, mark=5)["marks"] == {"1": 5}
    assert page.post(address, cell=2, mark=3)["marks"] == {"1": 5, "2": 3}
    assert page.post(address, cell=1, mark=0)["marks"] == {"2": 3}
    path = page.folder / "out" / "grid" / "grid-marks.json"
    assert list(json.loads(path.read_text())["marks"].values()) == [3]
    assert the_grid(page)["marks"] == {"2": 3}
    for wrong in ({"cell": 99, "mark": 1}, {"cell": -1, "mark": 1}, {"cell": 1, "mark": 6},
                  {"cell": "1", "mark": 1}, {"cell": 1, "mark": 1.5}, {}):  # fmt: skip
        assert page.send(address, **wrong).status == 400
    api.undo(page.folder)
    assert len(the_grid(page)["marks"]) == 2


def test_a_file_is_kept_with_the_cell_as_its_preview(page):
    grid = the_grid(page)
    cell = next(c for c in grid["cells"] if c["file"] == 1)
    target = page.folder / "kept"
    request = {
        "grid": grid["id"], "file": 1, "cell": cell["n"],
        "options": {"to": str(target), "name": "kitsu", "weight": 0.8},
    }  # fmt: skip
    planned = keep(page, dry_run=True, **request)
    assert not target.exists() and planned["state"] == "copied"
    assert planned["command"].startswith("dsk keep out/k-000004.safetensors --to ")
    result = keep(page, **request)
    assert result["prompt"] == "<lora:kitsu:0.8> kitsu"
    source = page.folder / "out" / "k-000004.safetensors"
    assert (target / "kitsu.safetensors").read_bytes() == source.read_bytes()
    card = a1111(target, "kitsu")
    assert card.prompt == "<lora:kitsu:0.8> kitsu" and card.preview is not None
    assert "<lora:kitsu:" in pixels.png_text(card.preview)[TEXT_KEY]
    kept = the_grid(page)["files"][1]["kept"]
    assert (kept["name"], kept["folder"], kept["weight"]) == ("kitsu", str(target), 0.8)
    assert page.get("loras/keep")["folders"][0]["path"] == str(target)
    api.undo(page.folder)
    assert not target.exists() and the_grid(page)["files"][1]["kept"] is None


def test_a_file_is_downloaded_as_a_zip_with_what_keeping_writes(page):
    grid = the_grid(page)
    cell = next(c for c in grid["cells"] if c["file"] == 1)
    before = tree(page.folder)
    response = load(page, f"/lora/{grid['id']}/1?cell={cell['n']}&name=kitsu&weight=0.8")
    assert response.status == 200 and response.headers["content-type"] == "application/zip"
    assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''kitsu.zip"
    with ZipFile(io.BytesIO(response.body)) as archive:
        assert archive.testzip() is None
        archive.extractall(page.folder.parent / "unpacked")
    assert tree(page.folder) == before
    target = page.folder.parent / "kept"
    options = {"to": str(page.folder / "kept"), "name": "kitsu", "weight": 0.8}
    keep(page, grid=grid["id"], file=1, cell=cell["n"], options=options)
    (page.folder / "kept").rename(target)
    assert tree(page.folder.parent / "unpacked") == tree(target)


def test_a_download_needs_no_cell_and_has_the_name_of_its_run(page):
    grid = the_grid(page)
    response = load(page, f"/lora/{grid['id']}/0")
    with ZipFile(io.BytesIO(response.body)) as archive:
        assert archive.namelist() == ["k.json", "k.safetensors"]


@pytest.mark.parametrize(
    ("query", "status"),
    [("/0?name=../x", 400), ("/0?name=a%0Ab", 400), ("/0?name=%00", 400), ("/0?weight=-1", 400),
     ("/0?weight=nan", 400), ("/0?weight=inf", 400), ("/0?weight=x", 400), ("/0?cell=99", 400),
     ("/0?cell=-1", 400), ("/9", 400), ("/-1", 404), ("/x", 404), ("/0?name=" + "a" * 300, 400)],
)  # fmt: skip
def test_a_wrong_request_for_a_download_is_refused(page, query, status):
    response = load(page, f"/lora/{the_grid(page)['id']}{query}")
    assert response.status == status and response.json["error"]


def test_a_download_reads_no_link_and_no_file_that_is_not_a_lora(page, tmp_path):
    grid = the_grid(page)
    path = page.folder / "out" / "k-000002.safetensors"
    path.rename(tmp_path / "elsewhere.safetensors")
    path.symlink_to(tmp_path / "elsewhere.safetensors")
    assert load(page, f"/lora/{grid['id']}/0").status == 400
    path.unlink()
    path.write_text("no LoRA")
    assert load(page, f"/lora/{grid['id']}/0").status == 400
    assert load(page, f"/lora/{'0' * 12}/0").status == 404


def test_a_run_without_previews_can_be_drawn(page):
    """The page offers to draw where a run has LoRA files; the last one has no number."""
    folder = page.folder / "out"
    assert page.get("grids")["runs"] == []
    header = {"ss_resolution": "(64, 64)", "ss_base_model_version": "sd_v1"}
    save(folder / "k.safetensors", pair(LAYER, 8, 8, 2, seed=9), header)
    manifest = {"version": 1, "name": "k", "started": "2026-11-30T00:00:00Z",
                "status": "finished", "files": []}  # fmt: skip
    (folder / "k-run.json").write_text(json.dumps(manifest))
    (folder / "other-run.json").write_text(json.dumps({**manifest, "name": "other"}))
    (run,) = page.get("grids")["runs"]
    assert (run["name"], run["epochs"]) == ("k", ["2", "4", "last"])
    assert (run["prompts"], run["seconds"], run["folder"]) == (1, None, "out")


def test_how_long_a_preview_took_follows_from_the_metrics(tmp_path):
    run = grid_files.GridSource("previews", tmp_path, "k")
    (tmp_path / "sample").mkdir()
    previews = [{"file": f"k-00000{n}-0{i}.png", "step": n * 2} for n in (1, 2) for i in (0, 1)]
    rows = [(1, 100.0, 1.0), (2, 101.0, 1.0), (3, 108.0, 1.0), (4, 109.0, 1.0)]
    metrics = [{"step": step, "time": time, "seconds": seconds} for step, time, seconds in rows]
    for path, lines in ((run.record, previews), (tmp_path / "k-metrics.jsonl", metrics)):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert grid_files.preview_seconds(run) == 3.0  # 6 s between the steps 2 and 3 for two images
    (tmp_path / "k-metrics.jsonl").write_text('{"step": 2}\nnonsense\n[]\n')
    assert grid_files.preview_seconds(run) is None
    (tmp_path / "k-metrics.jsonl").unlink()
    assert grid_files.preview_seconds(run) is None


def test_a_file_is_not_kept_outside_of_the_roots(page):
    grid = the_grid(page)
    (page.folder / "link").symlink_to(page.folder.parent)
    (page.folder / "comfy" / "comfy").mkdir(parents=True)
    (page.folder / "comfy" / "main.py").touch()
    outside = page.folder.parent / "outside"
    outside.mkdir()
    (page.folder / "comfy" / "extra_model_paths.yaml").write_text(f"a:\n  loras: {outside}\n")
    for to in ("/tmp", "..", "link", str(outside), "comfy", "/"):
        request = {"grid": grid["id"], "file": 0, "cell": None, "options": {"to": to}}
        keep(page, status=403, **request)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    "changed",
    [{"file": 9}, {"file": -1}, {"cell": 99}, {"cell": -1}, {"options": {}},
     {"options": {"to": "kept", "name": "../x"}}, {"options": {"to": "kept", "weight": "1"}},
     {"options": {"to": "kept", "weight": -1}}, {"options": {"to": 5}}, {"options": {"to": "\0"}},
     {"options": {"to": "kept", "preview": "/etc/passwd", "name": "a\nb"}}, {"file": "0"}],
    ids=str,
)  # fmt: skip
def test_a_wrong_request_to_keep_is_refused(page, changed):
    grid = the_grid(page)
    request = {"grid": grid["id"], "file": 0, "cell": None, "options": {"to": "kept"}, **changed}
    keep(page, status=400, **request)
    assert not (page.folder / "kept").exists()


def test_a_file_that_was_trained_again_since_the_grid_is_not_kept(page):
    save(
        page.folder / "out" / "k-000004.safetensors",
        pair(LAYER, 8, 8, 2, seed=9),
        {"ss_steps": "1"},
    )
    grid = the_grid(page)
    assert [file["there"] for file in grid["files"]] == [True, False]
    keep(page, status=400, grid=grid["id"], file=1, cell=None, options={"to": "kept"})


def test_a_record_names_no_lora_outside_of_the_roots_and_none_without_a_hash(page, tmp_path):
    """A grid may come from somebody else."""
    (page.folder / "out" / "k-000002.safetensors").rename(tmp_path / "k-000002.safetensors")
    shutil.move(page.folder / "out" / "k-000004.safetensors", page.folder / "k-000004.safetensors")
    record = page.folder / "out" / "grid" / "grid.jsonl"
    lines = [json.loads(line) for line in record.read_text("utf-8").splitlines()]

    def there(folder: Path, **change: str) -> list[bool]:
        changed = [{**line, "lora_folder": str(folder), **change} for line in lines]
        record.write_text("".join(json.dumps(line) + "\n" for line in changed))
        return [file["there"] for file in the_grid(page)["files"]]

    assert there(tmp_path) == [False, False]
    assert there(page.folder) == [False, True]
    assert there(page.folder, lora="") == [False, False]


def test_the_previews_of_a_run_are_shown_as_a_grid(page):
    folder = page.folder / "out"
    (folder / "sample").mkdir()
    lines = []
    for step, stem in ((0, "k-000000"), (20, "k-000002"), (40, "k-000004")):
        for place, text in enumerate(("kitsu", "1girl")):
            name = f"{stem}-{place:02d}.png"
            pixels.save(Image.new("RGB", (64, 64), (step, 0, 0)), folder / "sample" / name)
            lines.append({"step": step, "epoch": step // 10, "file": name, "place": place,
                          "text": text, "seed": 1})  # fmt: skip
    record = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "sample" / "k.jsonl").write_text(record)
    manifest = {
        "version": 1,
        "name": "k",
        "started": "2026-11-30T00:00:00Z",
        "status": "finished",
        "files": [],
        "options": {"network_dim": 2, "x": [1]},
    }
    (folder / "k-run.json").write_text(json.dumps(manifest))
    listed = page.get("grids")
    entry = next(grid for grid in listed["grids"] if grid["kind"] == "previews")
    grid = page.get(f"grids/{entry['id']}")
    assert grid["axes"][0] == {"name": "epoch", "values": ["without", "epoch 2", "epoch 4"]}
    assert len(grid["cells"]) == 6 and [f["label"] for f in grid["files"]] == ["epoch 2", "epoch 4"]
    assert all(file["there"] for file in grid["files"])
    # Watch shows the previews of a run by its id.
    (watched,) = page.get("runs")["runs"]
    assert {grid["run"] for grid in listed["grids"]} == {watched["id"]}
    (run,) = listed["runs"]
    assert (run["name"], run["epochs"], run["prompts"]) == ("k", ["2", "4"], 2)
    page.post(f"grids/{entry['id']}/marks", cell=0, mark=2)
    assert (folder / "sample" / "grid-marks.json").is_file()


@pytest.mark.parametrize("name", ["0" * 12, "..", "%2e%2e", "out", "a" * 300, "'"])
def test_a_grid_that_does_not_exist_is_not_found(page, name):
    assert load(page, f"/api/grids/{name}").status == 404
    assert load(page, f"/cell/{name}/0").status == 404
    grid = the_grid(page)
    for cell in ("99", "-1", "x", "1.0", "9" * 30):
        assert load(page, f"/cell/{grid['id']}/{cell}").status == 404


HOSTILE = [
    {"file": "../../secret.png"}, {"file": "/etc/passwd"}, {"file": "images/../../secret.png"},
    {"file": "images/a/../../../secret.png"}, {"file": "images/..png/../../../secret.png"},
    {"file": 5}, {"file": "images/link.png"}, {"file": "images/\0.png"}, {"at": "x"}, {"at": []},
    {"at": [5]}, {"at": [{"epoch": [1]}]}, {"seed": float("nan")}, {"seed": {"a": 1}},
    {"lora_name": "../../../secret"}, {"lora_name": 5}, {"lora_folder": "/"}, {"lora_folder": [1]},
    {"lora_folder": "\0"}, {"lora_folder": "~nobody/x"}, {"lora_folder": "../" * 40},
    {"lora_name": "x\0"}, {"text": "\ud800"},
]  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_a_record_of_somebody_else_shows_nothing_from_elsewhere(page, change):
    folder = page.folder / "out" / "grid"
    secret = page.folder.parent / "secret.png"
    Image.new("RGB", (33, 33)).save(secret)
    (folder / "images" / "link.png").symlink_to(secret)
    record = folder / "grid.jsonl"
    first = json.loads(record.read_text().splitlines()[0])
    others = record.read_text()
    record.write_text(json.dumps({**first, **change}) + "\n" + others + "no json\n[1]\n")
    grid = the_grid(page)
    assert all((cell["w"], cell["h"]) == (64, 64) for cell in grid["cells"])
    for cell in grid["cells"]:
        assert load(page, f"/cell/{grid['id']}/{cell['n']}").status == 200
    assert all(file["name"] != "../../../secret" or not file["there"] for file in grid["files"])


@pytest.mark.parametrize("text", ["", "[]", "{", '{"marks": 5}', '{"marks": {"x": 9}}', "[" * 9999])
def test_marks_and_scores_of_somebody_else_are_left_out(page, text):
    folder = page.folder / "out" / "grid"
    for name in (grid_files.MARKS, grid_files.SCORES):
        (folder / name).write_text(text)
    grid = the_grid(page)
    assert grid["marks"] == {} and grid["scores"] is None


def test_a_linked_folder_of_cells_is_not_followed(page):
    folder = page.folder / "out" / "grid"
    elsewhere = page.folder.parent / "elsewhere"
    (folder / "images").rename(elsewhere)
    (folder / "images").symlink_to(elsewhere)
    grids = page.get("grids")["grids"]
    assert [grid["images"] for grid in grids] == [0]


def test_the_scores_of_a_grid_come_with_the_reasons_of_the_suggestion(page):
    folder: Path = page.folder / "out" / "grid"
    scores = {
        "rows": [{"label": "2", "lora": "k-000002", "change": {"mean": -0.4, "error": 0.01}}],
        "suggestion": {"label": "4", "lora": "k-000004", "reasons": ["a", "b"], "remarks": []},
        "notes": [],
    }
    (folder / "scores.json").write_text(json.dumps({"losses": {}, "scores": scores}))
    assert the_grid(page)["scores"] == scores
