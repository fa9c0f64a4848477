"""`dsk rules --suggest`: a table, and the rows of it that are taken."""

from tests.cli.conftest import write_image

TEXTS = (
    "sks, 1girl, baseball cap, hat, lips, smile",
    "sks, 1girl, lips, nose, open mouth",
)


def folder(here):
    for n, text in enumerate(TEXTS):
        write_image(here / "p" / f"{n}.png", 60 * n).with_suffix(".txt").write_text(f"{text}\n")
    return here / "p"


def texts(path):
    return [p.read_text().strip() for p in sorted(path.glob("*.txt"))]


def test_the_table_changes_nothing(dsk, here):
    path = folder(here)
    ended = dsk("rules", "p", "--suggest")
    assert ended.code == 0 and texts(path) == list(TEXTS)
    for word in ("lips", "2/2", "a part of the face", "beside baseball cap", "keep", "smile"):
        assert word in ended.out
    assert not (path / ".dsk").exists() or dsk("history", "p").code == 0
    rows = dsk("rules", "p", "--suggest", "--json").result["suggestions"]
    assert [row["tag"] for row in rows if row["recommended"]] == ["lips", "hat", "nose"]


def test_recommended_rows_are_one_entry_that_is_undone(dsk, here):
    path = folder(here)
    command = ("rules", "p", "--suggest", "--apply", "recommended")
    dry = dsk(*command, "--dry-run")
    assert dry.code == 0 and "-lips" in dry.out and texts(path) == list(TEXTS)
    assert dsk(*command).code == 0
    assert texts(path) == ["sks, 1girl, baseball cap, smile", "sks, 1girl, open mouth"]
    assert dsk("undo", "p").code == 0 and texts(path) == list(TEXTS)


def test_rows_are_taken_by_tag_and_by_number(dsk, here):
    path = folder(here)
    assert dsk("rules", "p", "--suggest", "--apply", "hat,1").code == 0
    assert texts(path) == [
        "sks, 1girl, baseball cap, smile",
        "sks, 1girl, nose, open mouth",
    ]


def test_the_kind_decides(dsk, here):
    path = folder(here)
    assert dsk("rules", "p", "--suggest", "--kind", "style", "--apply", "recommended").code == 0
    assert texts(path) == ["sks, 1girl, baseball cap, lips, smile", TEXTS[1]]


def test_rows_that_are_not_in_the_table_and_apply_alone_are_refused(dsk, here):
    path = folder(here)
    ended = dsk("rules", "p", "--suggest", "--apply", "wall")
    assert ended.code == 2 and "--apply wall" in ended.err
    ended = dsk("rules", "p", "--apply", "recommended")
    assert ended.code == 2 and "--suggest" in ended.err
    assert texts(path) == list(TEXTS)
