"""What the commands print: hints that can be typed, counts that are true, and no claims of what
did not happen.
"""

import shlex

import pytest

from tests.cli.conftest import captions, images, write_image


def hinted(printed: str) -> list[str]:
    """Return the undo command that an output names, as its words."""
    (line,) = [line for line in printed.splitlines() if "; to undo: " in line]
    return shlex.split(line.rsplit("; to undo: ", 1)[1].removesuffix(")"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("tag", "my imgs"),
        ("rename", "my imgs", "x"),
        ("resize", "my imgs", "small ones"),
        ("layout", "5_x=my imgs"),
    ],
    ids=lambda a: a[0],
)
def test_the_printed_undo_command_works(dsk, here, arguments):
    images(here / "my imgs", 2)
    command, *rest = hinted(dsk(*arguments).out)
    assert command == "dsk" and rest[0] == "undo"
    assert dsk(*rest).out.startswith(f"undid {arguments[0]}")


def test_inside_the_project_undo_needs_no_folder(dsk, here, monkeypatch):
    images(here / "imgs", 2)
    monkeypatch.chdir(here / "imgs")
    assert hinted(dsk("tag", ".").out) == ["dsk", "undo"]


def test_kept_captions_and_uncaptioned_images_are_counted_separately(dsk, here):
    images(here / "imgs", 2)
    (here / "imgs" / "a1.txt").write_text("mine\n", encoding="utf-8")
    printed = dsk("tag", "imgs", "--threshold", "1").out
    assert "0 unchanged, 1 hand-edited kept, 1 without a caption;" in printed
    assert "  kept a1.png: its caption was edited by a person" in printed
    assert "  no caption for a2.png: no tag reaches the threshold" in printed


def test_rules_without_captions_are_not_reported_as_unmatched(dsk, here):
    images(here / "imgs", 1)
    (here / "imgs" / "a1.txt").write_text("mine, solo\n", encoding="utf-8")
    ended = dsk("tag", "imgs", "--exclude", "solo", "--trigger", "Sks")
    assert "matched nothing" not in ended.err and "exclude solo" not in ended.out
    assert captions(here / "imgs") == {"a1": "mine, solo"}


def test_images_that_fail_are_not_in_the_table_of_sizes(dsk, here):
    whole = write_image(here / "imgs" / "a.jpg", 90, (600, 600)).read_bytes()
    (here / "imgs" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    ended = dsk("resize", "imgs")
    assert ended.code == 3 and "0 of 1" in ended.out and "of 2" not in ended.out


def test_the_plan_of_a_layout_names_sources_relative_to_the_current_folder(dsk, here):
    images(here / "imgs", 1)
    assert "copy   imgs/a1.png -> train/2_x/a1.png" in dsk("layout", "2_x=imgs", "--dry-run").out


def test_an_existing_reg_set_and_tables_are_reported_unchanged(dsk, here):
    images(here / "imgs", 2)
    images(here / "women", 2)
    dsk("tag", "imgs")
    dsk("layout", "2_x=imgs")
    assert "laid out 2 images as dataset/reg/2_1girl" in dsk("reg", "women", "--class", "1girl").out
    assert (
        "dataset/reg/2_1girl unchanged: 2 x 2 = 4 samples"
        in dsk("reg", "women", "--class", "1girl").out
    )
    for command in ("report", "export"):
        assert "; to undo: dsk undo dataset)" in dsk(command, "dataset").out
        again = dsk(command, "dataset").out
        assert "unchanged" in again and "wrote" not in again and "history" not in again
    (here / "dataset" / "config.toml").unlink()
    again = dsk("export", "dataset").out
    assert "dataset/dataset.toml unchanged\nwrote dataset/config.toml\n" in again


def test_no_file_is_left_behind_when_no_image_can_be_used(dsk, here):
    (here / "imgs").mkdir()
    (here / "imgs" / "a.png").write_bytes(b"nothing")
    for command in (("layout", "x=imgs"), ("export", "imgs", "--out", "ds")):
        ended = dsk(*command)
        assert (
            ended.code == 10
            and "imgs has no usable image" in ended.err
            and ended.err.count("a.png") == 1
        )
    assert [p.name for p in here.iterdir()] == ["imgs"] and len(
        list((here / "imgs").iterdir())
    ) == 1


def test_the_error_for_a_folder_without_images_names_subfolders_with_images(dsk, here):
    images(here / "p" / "b 10", 1)
    images(here / "p" / "b 2", 1)
    images(here / "p" / "masks", 1)
    (here / "p" / "empty").mkdir()
    for command in (
        ("tag", "p"),
        ("resize", "p"),
        ("rename", "p", "x"),
        ("layout", "x=p"),
        ("report", "p"),
    ):
        ended = dsk(*command)
        assert ended.code == 10 and "these hold some:" in ended.err
        hint = ended.err.splitlines()[1]
        assert (
            hint.index("b 2") < hint.index("b 10") and "masks" not in hint and "empty" not in hint
        )


def test_a_file_instead_of_the_output_folder_is_named_with_a_hint(dsk, here):
    images(here / "imgs", 1)
    (here / "file").write_text("mine")
    for command in (
        ("resize", "imgs", "file"),
        ("layout", "x=imgs", "--out", "file"),
        ("export", "imgs", "--out", "file"),
    ):
        ended = dsk(*command)
        assert ended.code == 13 and "hint: a part of the path is a file" in ended.err
    assert (here / "file").read_text() == "mine"


def test_an_undo_in_the_history_has_the_word_undo_once(dsk, here):
    images(here / "imgs", 1)
    dsk("rename", "imgs", "x")
    dsk("undo", "imgs")
    newest = dsk("history", "imgs").out.splitlines()[1]
    assert newest.count("undo") == 1 and "rename imgs -> x" in newest
