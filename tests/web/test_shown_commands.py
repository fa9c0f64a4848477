"""The command that a panel shows, typed in a copy of the project, makes the same files, byte for
byte.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from datasetkit import api
from datasetkit.cli.main import run
from datasetkit.core.files import PROJECT
from datasetkit.project import job_runner
from datasetkit.verbs.shared import job as job_of_command
from tests.lora_files.files import pair, save
from tests.web.client import Browser, studio
from tests.web.datasets import drawing
from tests.web.kill_points import FlatDrawer

LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
CONFIG = """# mine
[[concept]]
name = "kitsu"
folder = "faces"
repeats = 2
trigger = ["kitsu"]

[reg]
folder = "girls"
class_name = "1girl"

[train]
resolution = 64
output_dir = "out"
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(job_runner, "start", lambda: False)
    monkeypatch.setattr("trainer.grid.draw.GridDrawer", FlatDrawer)
    folder = tmp_path / "project"
    for n in range(3):
        drawing(folder / "faces" / f"a{n}.png", n, (200, 150 + 30 * n))
        (folder / "faces" / f"a{n}.txt").write_text("kitsu, hat, hat\n" if n else "kitsu, 1girl\n")
        drawing(folder / "girls" / f"g{n}.png", 9 + n, (96, 96)).with_suffix(".txt").write_text(
            "1girl, smile\n"
        )
        drawing(folder / "new" / f"n{n}.png", 20 + n, (96, 96))
    for n, epoch in enumerate((2, 4)):
        header = {"ss_epoch": str(epoch), "ss_resolution": "(64, 64)",
                  "ss_base_model_version": "sd_v1",
                  "ss_network_module": "networks.lora"}  # fmt: skip
        save(folder / "out" / f"k-{epoch:06d}.safetensors", pair(LAYER, 8, 8, 2, seed=n), header)
    (folder / "dsk.toml").write_text(CONFIG)
    options = api.GridOptions(base="tiny", prompt=("kitsu",), steps=3, seed=0, size=(64, 64))
    api.grid(folder / "out", options)
    run(["check", str(folder)])
    with studio(folder) as browser:
        yield browser


def files(folder: Path) -> dict[str, bytes]:
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.as_posix(): (folder / path).read_bytes() for path in paths if PROJECT not in path.parts
    }


def do_jobs(page: Browser) -> None:
    """Do what waits in the queue, as its runner would."""
    for job in page.get("jobs")["jobs"]:
        if job["state"] == "queued":
            assert job_of_command.execute(job["id"], run) == 0, job["command"]


def check(page: Browser) -> str:
    page.post("jobs", verb="check", arguments=["."], options={}, when="now")
    return str(page.get("check")["command"])


def fix(page: Browser) -> str:
    planned = page.post("check/fix", checks=["tag-twice"], dry_run=True)
    page.post("check/fix", checks=["tag-twice"])
    return str(planned["command"])


def prepare(page: Browser) -> str:
    steps = {"rename": {"prefix": "kitsu"}, "resize": {"max": 64}}
    planned = page.post("prepare", concept=0, steps=steps, dry_run=True)
    page.post("prepare", concept=0, steps=steps)
    return str(planned["command"])


def lay_out(page: Browser) -> str:
    command = page.get("layout")["command"]
    for verb in ("layout", "reg"):
        page.post("jobs", verb=verb, when="queue")
    return str(command)


def draw(page: Browser) -> str:
    body: dict[str, Any] = {"verb": "grid", "arguments": ["out"], "options": {
        "base": "tiny", "prompt": ["kitsu, smile"], "steps": 3, "seed": 1, "size": [64, 64],
        "x": "epoch", "y": "weight=0.5,1",
    }}  # fmt: skip
    page.post("jobs", **body, when="queue")
    return str(page.post("command", **body)["command"])


def keep(page: Browser) -> str:
    grid = page.get("grids")["grids"][0]["id"]
    cell = next(c for c in page.get(f"grids/{grid}")["cells"] if c["file"] == 1)
    body: dict[str, Any] = {"grid": grid, "file": 1, "cell": cell["n"],
            "options": {
                "to": "kept", "name": "kitsu", "weight": 0.8, "trigger": ["kitsu", "hat"],
            }}  # fmt: skip
    return str(page.post("loras/keep", **body)["command"])


def tag(page: Browser) -> str:
    body: dict[str, Any] = {"verb": "tag", "arguments": ["new"], "options": {
        "tagger": "basic", "threshold": 0.3, "trigger": ["kitsu"],
    }}  # fmt: skip
    page.post("jobs", **body, when="queue")
    return str(page.post("command", **body)["command"])


# The page also writes the steps into dsk.toml, so that dsk run does the same.
WRITES_CONFIG = (prepare,)


@pytest.mark.long
@pytest.mark.parametrize("panel", [check, fix, prepare, lay_out, draw, keep, tag])
def test_a_shown_command_makes_the_same_files(
    page: Browser, panel: Callable[[Browser], str], tmp_path: Path, monkeypatch: Any
) -> None:
    copy = tmp_path / "copy" / "project"
    shutil.copytree(page.folder, copy)
    before = files(page.folder)
    monkeypatch.chdir(page.folder)
    command = panel(page)
    do_jobs(page)
    monkeypatch.chdir(copy)
    for line in command.split(" && "):
        program, *words = shlex.split(line)
        assert program == "dsk" and run(words) == 0, line
    after, typed = files(page.folder), files(copy)
    if panel in WRITES_CONFIG:
        assert after.pop("dsk.toml") != typed.pop("dsk.toml")
    # Paths of the project are in some files; times are in the record of a grid.
    assert after.keys() == typed.keys()
    for name in after:
        if not name.endswith((".jsonl", "index.html")):
            data = typed[name].replace(str(copy).encode(), str(page.folder).encode())
            assert after[name] == data, name
    assert panel is check or after != before
