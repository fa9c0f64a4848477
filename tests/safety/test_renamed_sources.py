"""Outputs follow their renamed sources: a caption stays with its image, also if options or formats
change.
"""

import itertools

import pytest

from datasetkit import api
from datasetkit.core.errors import PlanConflict
from tests.safety.datasets import write_image
from tests.safety.harness import tree

SMALL, SMALLER = api.ResizeOptions(max=32), api.ResizeOptions(max=24)


def resized(workdir, options=SMALL, out="out"):
    return api.resize(workdir / "imgs", workdir / out, options)


@pytest.fixture
def made(workdir):
    """Three resized images, each output with a caption that a person wrote."""
    for n in (1, 2, 3):
        write_image(workdir / "imgs" / f"p{n}.png", n)
    resized(workdir)
    for n in (1, 2, 3):
        (workdir / "out" / f"p{n}.txt").write_text(f"image {n}\n", encoding="utf-8")
    return workdir


def captioned(folder) -> dict[str, str]:
    """Return the captions of a folder by the names of their images."""
    return {
        p.name: p.with_suffix(".txt").read_text(encoding="utf-8")[:-1]
        for p in sorted(folder.glob("*.[pj]*g"))
    }


def renamed(workdir, names: dict[str, str]) -> None:
    """Rename images all at once, as another program would."""
    folder = workdir / "imgs"
    for old in names:
        (folder / old).rename(folder / f"{old}.aside")
    for old, new in names.items():
        (folder / f"{old}.aside").rename(folder / new)


@pytest.mark.parametrize("options", [SMALL, SMALLER], ids=["same", "other size"])
@pytest.mark.parametrize(
    "order",
    [o for o in itertools.permutations((1, 2, 3)) if o != (1, 2, 3)],
    ids=lambda o: "".join(map(str, o)),
)
def test_captions_follow_images_that_swapped_names(made, order, options):
    renamed(made, {f"p{old}.png": f"p{new}.png" for new, old in enumerate(order, 1)})
    resized(made, options)
    assert captioned(made / "out") == {
        f"p{new}.png": f"image {old}" for new, old in enumerate(order, 1)
    }
    assert resized(made, options).entry is None


def test_captions_follow_images_that_were_renumbered_after_one_was_removed(made):
    (made / "imgs" / "p1.png").unlink()
    renamed(made, {"p2.png": "p1.png", "p3.png": "p2.png"})
    followed = resized(made).followed
    assert captioned(made / "out") == {"p1.png": "image 2", "p2.png": "image 3"}
    assert [(f.old.name, f.new and f.new.name) for f in followed] == [
        ("p1.png", None), ("p2.png", "p1.png"), ("p3.png", "p2.png")
    ]  # fmt: skip
    assert not (made / "out" / "p3.txt").exists()


def test_the_output_of_a_removed_image_is_removed_also_if_the_size_changes(made):
    (made / "imgs" / "p1.png").unlink()
    renamed(made, {"p2.png": "second.png"})
    resized(made, SMALLER)
    assert captioned(made / "out") == {"p3.png": "image 3", "second.png": "image 2"}


def test_another_format_replaces_the_images_and_keeps_their_captions(made):
    resized(made, api.ResizeOptions(max=32, format="jpg"))
    assert captioned(made / "out") == {f"p{n}.jpg": f"image {n}" for n in (1, 2, 3)}
    resized(made)
    assert captioned(made / "out") == {f"p{n}.png": f"image {n}" for n in (1, 2, 3)}


def test_an_image_that_was_edited_in_place_keeps_its_caption(made):
    write_image(made / "imgs" / "p1.png", 50)
    assert resized(made).followed == ()
    assert captioned(made / "out") == {f"p{n}.png": f"image {n}" for n in (1, 2, 3)}


def test_an_image_that_cannot_be_read_for_now_keeps_its_output(made):
    data = (made / "imgs" / "p1.png").read_bytes()
    (made / "imgs" / "p1.png").write_bytes(b"half copied")
    assert resized(made).followed == ()
    (made / "imgs" / "p1.png").write_bytes(data)
    assert resized(made).followed == () and captioned(made / "out")["p1.png"] == "image 1"


def test_an_output_that_a_person_edited_is_kept(made):
    edited = made / "out" / "p1.png"
    edited.write_bytes(edited.read_bytes() + b"\0")
    (made / "imgs" / "p1.png").unlink()
    assert resized(made).followed == () and edited.is_file()


def test_two_output_folders_of_one_project_follow_independently(made):
    (made / "dsk.toml").write_text("", encoding="utf-8")
    resized(made, out="a")
    resized(made, out="b")
    renamed(made, {"p1.png": "first.png"})
    resized(made, out="b")
    assert sorted(p.name for p in (made / "b").glob("*.png")) == ["first.png", "p2.png", "p3.png"]
    assert sorted(p.name for p in (made / "a").glob("*.png")) == ["p1.png", "p2.png", "p3.png"]
    resized(made, out="a")
    assert sorted(p.name for p in (made / "a").glob("*.png")) == ["first.png", "p2.png", "p3.png"]


def test_following_renamed_sources_can_be_undone(made):
    (made / "imgs" / "p1.png").unlink()
    renamed(made, {"p2.png": "p1.png", "p3.png": "p2.png"})
    before = tree(made / "out")
    resized(made)
    assert tree(made / "out") != before
    (entry,) = [e.id for e in api.history(made / "out") if e.title.startswith("follows")]
    api.undo(made / "out", entry)
    assert tree(made / "out") == before


def test_a_dry_run_reports_what_would_follow_and_moves_nothing(made):
    (made / "imgs" / "p1.png").unlink()
    before = tree(made)
    result = api.resize(made / "imgs", made / "out", SMALL, api.RunContext(dry_run=True))
    assert [f.old.name for f in result.followed] == ["p1.png"] and tree(made) == before


def test_a_new_name_and_another_format_at_once_keep_the_caption_and_make_the_image(made):
    (made / "imgs" / "p1.png").unlink()
    renamed(made, {"p2.png": "p1.png", "p3.png": "third.png"})
    resized(made, api.ResizeOptions(max=32, format="jpg"))
    assert captioned(made / "out") == {"p1.jpg": "image 2", "third.jpg": "image 3"}
    assert all(p.read_bytes()[:2] == b"\xff\xd8" for p in (made / "out").glob("*.jpg"))
    assert sorted(p.name for p in (made / "out").glob("*.txt")) == ["p1.txt", "third.txt"]


def test_an_edited_image_and_another_format_at_once_keep_the_caption(made):
    write_image(made / "imgs" / "p1.png", 50)
    resized(made, api.ResizeOptions(max=32, format="jpg"))
    assert captioned(made / "out") == {f"p{n}.jpg": f"image {n}" for n in (1, 2, 3)}


def test_a_file_of_somebody_else_is_refused_before_anything_follows(made):
    """All or nothing: the outputs of renamed sources are where they were after the refusal."""
    renamed(made, {"p1.png": "first.png"})
    write_image(made / "imgs" / "p4.png", 4)
    write_image(made / "out" / "p4.png", 99)
    before = tree(made)
    with pytest.raises(PlanConflict, match="was not made by dsk"):
        resized(made)
    assert tree(made) == before


def test_a_dry_run_foresees_that_a_renamed_source_needs_no_new_output(made):
    renamed(made, {"p1.png": "first.png"})
    result = api.resize(made / "imgs", made / "out", SMALL, api.RunContext(dry_run=True))
    assert [(f.old.name, f.new and f.new.name) for f in result.followed] == [
        ("p1.png", "first.png")
    ]
    assert {s.reason for s in result.report.skipped} == {"up to date"}
