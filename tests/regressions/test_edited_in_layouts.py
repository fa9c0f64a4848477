"""A caption that somebody edits in the layout stays while its source is as it was, and is named. A
source that changed replaces it, and says so.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import images

TRAIN = Path("dataset", "train")


@pytest.fixture
def laid_out(dsk, here) -> Path:
    for image in images(here / "imgs", 5):
        image.with_suffix(".txt").write_text(f"sks, {image.stem}\n")
    assert dsk("layout", "2_sks=imgs").code == 0
    return TRAIN / "2_sks"


def edit(folder: Path, *stems: str) -> None:
    for stem in stems:
        (folder / f"{stem}.txt").write_text(f"MY EDIT {stem}\n")


@pytest.mark.long
@pytest.mark.parametrize("repeats", [2, 7])
def test_an_edit_is_kept_and_named_where_its_source_did_not_change(repeats, laid_out, dsk):
    edit(laid_out, "a1", "a2", "a4", "a5")
    layout = ("layout", f"{repeats}_sks=imgs")
    folder = laid_out.with_name(f"{repeats}_sks")
    line = (
        f"kept 4 captions edited in the layout ({repeats}_sks/a1.txt, {repeats}_sks/a2.txt, "
        f"{repeats}_sks/a4.txt, ...): the source did not change"
    )
    for arguments in ((*layout, "--dry-run"), layout, layout):
        ended = dsk(*arguments)
        assert ended.code == 0 and line in " ".join(ended.err.split()), arguments
    assert (folder / "a1.txt").read_text() == "MY EDIT a1\n"
    (folder / "a1.txt").unlink()  # as the line says
    assert "kept 3 captions" in dsk(*layout).err
    assert (folder / "a1.txt").read_text() == "sks, a1\n"


def test_a_changed_source_replaces_the_edit_and_names_it(laid_out, dsk):
    edit(laid_out, "a1", "a2")
    Path("imgs/a1.txt").write_text("sks, new\n")
    Path("imgs/a3.txt").write_text("sks, new\n")  # nobody edited its copy
    ended = dsk("layout", "2_sks=imgs", "--json")
    assert [line.partition(":")[0] for line in ended.json["warnings"]] == [
        "kept 1 caption edited in the layout (2_sks/a2.txt)",
        "replaced 1 caption edited in the layout (2_sks/a1.txt)",
    ]
    assert (laid_out / "a1.txt").read_text() == "sks, new\n"
    assert dsk("undo", "dataset").code == 0
    assert (laid_out / "a1.txt").read_text() == "MY EDIT a1\n"


def test_an_edit_by_a_command_counts_and_its_undo_too(laid_out, dsk):
    assert dsk("rules", laid_out, "--replace", "a1=hat").code == 0
    assert "kept 1 caption edited in the layout (2_sks/a1.txt)" in dsk("layout", "2_sks=imgs").err
    assert (laid_out / "a1.txt").read_text() == "sks, hat\n"
    assert dsk("undo", laid_out).code == 0
    assert "edited" not in dsk("layout", "2_sks=imgs").err


def test_a_caption_without_one_at_its_source_is_kept(laid_out, dsk):
    Path("imgs/a1.txt").unlink()
    assert "edited" not in dsk("layout", "2_sks=imgs").err
    assert not (laid_out / "a1.txt").exists()
    edit(laid_out, "a1")
    assert "kept 1 caption" in dsk("layout", "2_sks=imgs").err
    assert (laid_out / "a1.txt").read_text() == "MY EDIT a1\n"


def test_the_edit_of_an_image_that_is_gone_is_named(laid_out, dsk):
    edit(laid_out, "a1")
    Path("imgs/a1.png").unlink()
    Path("imgs/a1.txt").unlink()
    Path("imgs/a2.png").unlink()
    Path("imgs/a2.txt").unlink()
    ended = dsk("layout", "2_sks=imgs")
    assert "replaced 1 caption edited in the layout (2_sks/a1.txt)" in ended.err
    assert not (laid_out / "a1.txt").exists() and not (laid_out / "a2.txt").exists()
