"""What a person saves between a command's look at a file and its writing is never overwritten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import pytest

from datasetkit import api
from datasetkit.cli.run import failures
from datasetkit.core.errors import FileChanged
from datasetkit.options.reg import RegOptions
from datasetkit.project import file_ops, journal
from datasetkit.project.plans import Move, Plan, WriteBytes, WriteText
from datasetkit.project.session import Project
from tests.cli.conftest import dsk, here  # noqa: F401 - fixtures
from tests.safety import datasets
from tests.safety.conftest import test_finders, test_tagger  # noqa: F401 - fixtures
from tests.safety.datasets import CASES, TAG, caption, small_set, write_image

Existing = Literal["skip", "overwrite", "append", "prepend"]
HOW: tuple[Existing, ...] = get_args(Existing)
EDIT = "MY PRECIOUS EDIT, lips, Lips\n"


def tag(existing: Existing) -> Callable[[Path], object]:
    return lambda root: api.tag(root / "imgs", replace(TAG, existing=existing))


def reg_with_captions(root: Path) -> object:
    out = str(root / "dataset")
    return api.reg(
        RegOptions(
            folder=str(root / "class"),
            class_name="1girl",
            trigger=("sks",),
            out=out,
            captions="derive",
        )
    )


def reword(root: Path) -> object:
    """Cut out again, after a person changed the words of an original."""
    caption(root / "imgs" / "photo 1.png", "other words, lips, simple background")
    return datasets.cutout(root)


def prepared(name: str) -> Callable[[Path], None]:
    return CASES[name].build


def cut_out(root: Path) -> None:
    small_set(root / "imgs")
    datasets.cutout(root)


WRITING = {
    "rules": (prepared("rules"), datasets.rules),
    "check --fix": (prepared("check"), datasets.check_and_fix),
    "import": (prepared("import"), lambda r: api.import_captions(r / "imgs", api.ImportOptions())),
    "import --existing overwrite": (prepared("import"), datasets.import_captions),
    **{f"tag --existing {existing}": (prepared("tag"), tag(existing)) for existing in HOW},
    "layout": (prepared("layout"), datasets.layout),
    "reg": (prepared("reg"), reg_with_captions),
    "cutout": (cut_out, reword),
}


class Editor:
    """Saves an edit into files that a plan is about to write or to move away."""

    def __init__(self, wanted: Callable[[Path], bool], times: int) -> None:
        self.wanted, self.times = wanted, times
        self.saved: dict[Path, bytes] = {}

    def edit(self, plan: Plan) -> None:
        if not self.times:
            return
        for path in self.targets(plan):
            self.times -= 1
            self.saved[path] = EDIT.replace("MY", f"MY {self.times}").encode()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.saved[path])
            return

    def targets(self, plan: Plan) -> Iterator[Path]:
        for op in plan.ops:
            if isinstance(op, WriteText | WriteBytes):
                path = op.path
            elif isinstance(op, Move) and op.over is not None:
                path = op.src
            else:
                continue
            if self.wanted(path) and (not self.saved or path in self.saved):
                yield path

    def assert_kept(self, result: object) -> None:
        assert self.saved
        for path, data in self.saved.items():
            text = path.read_text(encoding="utf-8")
            assert data.decode().split(",")[0] in text, text
            if text.encode() == data:
                names = [failed.path.stem for failed in failures(result)]
                assert path.stem in names, f"{path} is kept, but not named"


@pytest.fixture
def edits(monkeypatch):
    """Save an edit right before a plan is applied."""

    def install(wanted, times=1):
        editor, apply = Editor(wanted, times), Project.apply

        def edit_and_apply(self, plan, *args, **kwargs):
            editor.edit(plan)
            return apply(self, plan, *args, **kwargs)

        monkeypatch.setattr(Project, "apply", edit_and_apply)
        return editor

    return install


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize("command", WRITING)
def test_a_caption_saved_before_it_is_written_is_kept(command, times, tmp_path, edits):
    prepare, run = WRITING[command]
    prepare(tmp_path)
    editor = edits(lambda path: path.suffix == ".txt", times)
    editor.assert_kept(run(tmp_path))
    assert all("MY" in path.read_text(encoding="utf-8") for path in editor.saved)


def test_a_caption_saved_while_the_others_are_being_written_is_kept_and_named(
    tmp_path, monkeypatch
):
    images = small_set(tmp_path / "imgs")
    make_temp = file_ops.make_temp
    done: list[Path] = []

    def edit_and_make(op, **kwargs):
        if op.dst == images[1].with_suffix(".txt") and not done:
            op.dst.write_text(EDIT, encoding="utf-8")
            done.append(op.dst)
        make_temp(op, **kwargs)

    monkeypatch.setattr(journal, "make_temp", edit_and_make)
    result = datasets.rules(tmp_path)
    assert images[1].with_suffix(".txt").read_text(encoding="utf-8") == EDIT
    assert [failed.path for failed in failures(result)] == [images[1]]


def test_rules_apply_to_the_text_that_was_saved_meanwhile(tmp_path, edits):
    small_set(tmp_path / "imgs")
    editor = edits(lambda path: path.name == "photo 2.txt")
    result = datasets.rules(tmp_path)
    assert not failures(result)
    (path,) = editor.saved
    assert path.read_text(encoding="utf-8") == "sks, best, MY 0 PRECIOUS EDIT\n"


def test_undo_gives_back_the_text_that_was_saved_meanwhile(tmp_path, edits):
    small_set(tmp_path / "imgs")
    editor = edits(lambda path: path.name == "photo 2.txt")
    datasets.rules(tmp_path)
    api.undo(tmp_path / "imgs")
    assert {path: path.read_bytes() for path in editor.saved} == editor.saved


@pytest.mark.parametrize("command", ["export", "report", "check"])
def test_an_output_saved_before_it_is_written_is_kept(command, tmp_path, edits):
    datasets.small_set(tmp_path / "imgs")
    datasets.layout(tmp_path)
    folder, table = tmp_path / "dataset", tmp_path / "check.csv"
    run: Callable[[], object] = {
        "export": lambda: api.export(folder, api.ExportOptions()),
        "report": lambda: api.report(folder, api.ReportOptions(plot=False)),
        "check": lambda: api.check(folder, api.CheckOptions(only=("bom",), csv=str(table))),
    }[command]
    run()
    caption(write_image(folder / "train" / "5_sks" / "new.png", 30), "sks, new")
    editor = edits(lambda path: path.suffix in (".toml", ".csv"))
    try:
        assert failures(run())
    except FileChanged as error:
        assert error.paths
    assert {path: path.read_bytes() for path in editor.saved} == editor.saved


def test_a_kept_caption_is_named_and_ends_with_3(dsk, here, edits):  # noqa: F811
    small_set(here / "imgs")
    edits(lambda path: path.name == "photo 2.txt", times=2)
    result = dsk("rules", "imgs", "--exclude", "lips")
    assert result.code == 3
    assert "photo 2.jpg: was saved while dsk worked" in result.err
