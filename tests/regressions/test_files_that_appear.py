"""What appears in output_dir during a run, under the name of one of its files, is never replaced:
the run writes its own file under another name, says so, and counts that one.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from datasetkit.core.errors import InputError
from datasetkit.core.progress import SilentReporter
from tests.trainer import tiny
from trainer import loop, run
from trainer.files import run_files, run_manifest, save_lora, saved_states
from trainer.files.run_files import RunFiles
from trainer.files.run_manifest import RunFile
from trainer.files.saved_states import LORA, OPTIMIZER, STATE
from trainer.monitor.preview_contact_sheet import PreviewContactSheet
from trainer.monitor.prompts import Prompt
from trainer.plan.plan import find_subsets, make_plan

STARTED, MARK = "2026-11-29T10:00:00Z", "20261129T100000Z"
FOREIGN = b"somebody's work"


class Warnings(SilentReporter):
    """A reporter that keeps the warnings."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def warnings():
    return Warnings()


@pytest.fixture
def files(tmp_path, warnings):
    return RunFiles.start(tmp_path, "k", STARTED, warn=warnings.warn)


def listed(folder: Path) -> list[str]:
    manifest = run_manifest.read(folder, "k")
    assert manifest is not None
    return [file.name for file in manifest.files]


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("k.safetensors", f"k-{MARK}.safetensors"),
        ("k.diffusers.safetensors", f"k-{MARK}.diffusers.safetensors"),
        ("k-000003.safetensors", f"k-000003-{MARK}.safetensors"),
        ("k-step00000009.diffusers.safetensors", f"k-step00000009-{MARK}.diffusers.safetensors"),
        ("k-best.safetensors", f"k-best-{MARK}.safetensors"),
    ],
)
def test_a_lora_gets_another_name_that_belongs_to_the_run(tmp_path, files, warnings, name, other):
    (tmp_path / name).write_bytes(FOREIGN)
    assert files.write(name, "lora", b"lora").name == other
    assert (tmp_path / name).read_bytes() == FOREIGN
    assert (tmp_path / other).read_bytes() == b"lora"
    assert warnings.lines == [
        f"{tmp_path / name} was not written by this run, and is not replaced: saved as {other}"
    ]
    assert listed(tmp_path) == [other] and files.path(name) == tmp_path / other
    assert run_manifest.kind_of("k", other) == "lora" and run_manifest.unmarked("k", other) == name


@pytest.mark.parametrize(
    "what", ["link", "folder", "own file that was edited", "own file that was replaced"]
)
def test_anything_that_is_not_the_file_as_it_was_written_counts(tmp_path, files, what):
    path = tmp_path / "k-best.safetensors"
    if what.startswith("own"):
        files.write(path.name, "lora", b"first")
        path.unlink() if "replaced" in what else None
        path.write_bytes(FOREIGN)
    elif what == "link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.mkdir()
    for text in (b"second", b"third"):  # says and renames once
        assert files.write(path.name, "lora", text).read_bytes() == text
    assert listed(tmp_path) == [f"k-best-{MARK}.safetensors"]
    assert path.is_symlink() or path.is_dir() or path.read_bytes() == FOREIGN


def test_the_runs_own_file_is_replaced_in_place(tmp_path, files, warnings):
    for text in (b"first", b"second"):
        files.write("k-best.safetensors", "lora", text)
    with files.replacing("k-best.json") as path:
        path.write_bytes(b"{}")
    with files.replacing("k-best.json") as path:
        path.write_bytes(b"[]")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "k-best.json", "k-best.safetensors", "k-run.json",
    ]  # fmt: skip
    assert warnings.lines == []


def test_the_other_name_is_free_too(tmp_path, files):
    for name in ("k.safetensors", f"k-{MARK}.safetensors", f"k-{MARK}-2.safetensors"):
        (tmp_path / name).write_bytes(FOREIGN)
    assert files.write("k.safetensors", "lora", b"lora").name == f"k-{MARK}-3.safetensors"


def test_a_state_gets_another_name_and_is_resumed(tmp_path, files):
    state = f'{{"version": {saved_states.VERSION}, "step": 4, "facts": {{}}, "threads": 1}}'
    contents = {LORA: b"", OPTIMIZER: b"", STATE: state.encode()}
    for name in ("k-state-00000004", "k-state-pause-00000006"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_bytes(FOREIGN)
    first = saved_states.write(files, 4, contents, pause=False)
    second = saved_states.write(files, 6, contents, pause=True)
    assert [first.name, second.name] == [
        f"k-state-00000004-{MARK}", f"k-state-pause-00000006-{MARK}",
    ]  # fmt: skip
    newest = saved_states.newest(tmp_path, "k")
    assert newest is not None and newest.folder == second
    assert saved_states.names(tmp_path) == ["k"]
    third = saved_states.write(files, 8, contents, pause=True)  # in the place of the last pause
    assert not second.exists() and first.exists() and third.name == "k-state-pause-00000008"
    assert (tmp_path / "k-state-00000004" / "manifest.json").read_bytes() == FOREIGN
    assert (tmp_path / "k-state-pause-00000006" / "manifest.json").read_bytes() == FOREIGN


def test_preview_images_their_record_and_their_contact_sheet(tmp_path, files):
    (tmp_path / "sample").mkdir()
    names = ["sample/k-000001-00.png", "sample/k.jsonl", "k-samples.png"]
    for name in names:
        (tmp_path / name).write_bytes(FOREIGN)
    kinds = ("preview", "previews", "contact sheet")
    files.add(*(RunFile(name, kind) for name, kind in zip(names, kinds, strict=True)))
    sheet = PreviewContactSheet(tmp_path, "k", replacing=files.replacing)
    prompt = Prompt(text="sks", width=64, height=64, seed=1, sampler="ddim")
    for step, stem in ((2, "000001"), (4, "000002")):
        sheet.add(step, step // 2, stem, [(prompt, Image.new("RGB", (64, 64)))])
    assert all((tmp_path / name).read_bytes() == FOREIGN for name in names)
    assert sheet.path == tmp_path / f"k-samples-{MARK}.png" and sheet.path.is_file()
    assert len((tmp_path / f"sample/k-{MARK}.jsonl").read_bytes().splitlines()) == 2
    assert sorted(listed(tmp_path)) == [
        f"k-samples-{MARK}.png", f"sample/k-000001-00-{MARK}.png", f"sample/k-{MARK}.jsonl",
    ]  # fmt: skip


def test_files_with_another_name_are_results_and_are_pruned_like_others(tmp_path, files):
    for name in ("k-000002.safetensors", "k.safetensors"):
        (tmp_path / name).write_bytes(FOREIGN)
    for name in ("k-000001", "k-000002", "k-000003", "k"):
        files.write(f"{name}.safetensors", "lora", name.encode())
    saved = save_lora.saved_files(tmp_path, "k")
    assert [path.read_bytes() for path in saved] == [b"k-000001", b"k-000002", b"k-000003", b"k"]
    rows = [{"epoch": n, "step": 2 * n, "loss": 0.1} for n in (1, 2, 3)]
    assert save_lora.saved_steps(saved, "k", rows)[4] == "epoch 2"
    save_lora.prune(tiny.options(tmp_path, tmp_path, save_last_n_epochs=1), files)
    assert [path.read_bytes() for path in save_lora.saved_files(tmp_path, "k")] == [
        b"k-000003",
        b"k",
    ]
    (kept,) = save_lora.rename_failed(files)
    assert kept.name == "k-failed-check.safetensors" and kept.read_bytes() == b"k"
    assert (tmp_path / "k-000002.safetensors").read_bytes() == FOREIGN


def test_a_failed_lora_does_not_replace_another_file(tmp_path, files):
    files.write("k.safetensors", "lora", b"lora")
    (tmp_path / "k-failed-check.safetensors").write_bytes(FOREIGN)
    (kept,) = save_lora.rename_failed(files)
    assert kept.name == f"k-failed-check-{MARK}.safetensors" and kept.read_bytes() == b"lora"
    assert (tmp_path / "k-failed-check.safetensors").read_bytes() == FOREIGN


def test_what_appeared_is_neither_recorded_nor_moved(tmp_path, files):
    files.add(RunFile("k-loss.png", "loss plot"))
    files.write("k.safetensors", "lora", b"lora")
    (tmp_path / "k-loss.png").write_bytes(FOREIGN)  # before the run has drawn its own
    files.end("stopped", STARTED)
    assert listed(tmp_path) == ["k.safetensors"]
    with pytest.raises(InputError, match=r"dsk did not write .*k-loss\.png"):
        run_files.require_own(tmp_path, "k")
    run_files.move_to_previous(tmp_path, "k")
    assert (tmp_path / "k-loss.png").read_bytes() == FOREIGN


@pytest.mark.long
def test_a_run_keeps_its_result_and_what_appeared(tmp_path, monkeypatch, warnings):
    data = tmp_path / "data"
    tiny.save_images(data / "train" / "1_sks", [(64, 64), (64, 64)])
    out = tmp_path / "out"
    options = tiny.options(
        tiny.save_small(tmp_path / "model"), out, resolution=64, max_train_epochs=2,
        train_batch_size=2, network_dim=1, unet_lr=0.01, save_every_n_epochs=1, lora_format="both",
    )  # fmt: skip
    appear = ["sks.safetensors", "sks-000001.safetensors", "sks-loss.png", "sks-state-00000001"]
    steps = loop.steps

    def with_files(*given, **more):
        for name in appear:
            (out / name).write_bytes(FOREIGN)
        yield from steps(*given, **more)

    monkeypatch.setattr(loop, "steps", with_files)
    plan = make_plan(find_subsets(data, options)[0], options)
    result = run.train(options, plan, reporter=warnings)
    assert all((out / name).read_bytes() == FOREIGN for name in appear)
    assert len(result.files) == 4 and all(path.is_file() for path in result.files)
    assert Counter(path.name.count("Z.") for path in result.files) == {0: 2, 1: 2}
    assert result.plot.is_file() and result.plot.name != "sks-loss.png"
    assert len([line for line in warnings.lines if "is not replaced" in line]) == 4
    shutil.rmtree(out)
