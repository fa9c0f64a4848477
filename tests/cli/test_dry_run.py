"""`--dry-run` changes no byte of the tree: no file, no time, no `.dsk`."""

import shutil

import pytest

from tests.cli.conftest import images, snapshot, write_image


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where the project is kept once it was made: every test works in a copy."""
    return tmp_path_factory.mktemp("made") / "project"


@pytest.fixture
def project(dsk, here, made):
    """Raw images, a tagged and laid-out set, a reg folder, sidecars and a dsk.toml, but nothing
    done in the root.
    """
    if made.exists():
        return shutil.copytree(made, here, dirs_exist_ok=True)
    for path in images(here / "imgs", 4):
        path.with_suffix(".txt").write_text("sks, lips, 1girl\n", encoding="utf-8")
    images(here / "new", 3)
    write_image(here / "big" / "b.png", 5, (1200, 1200))
    write_image(here / "big" / "masks" / "b.png", 255, (1200, 1200))
    images(here / "women", 2)
    (write_image(here / "spoiled" / "a.png", 7)).with_suffix(".txt").write_text(
        "hat, Hat\n", encoding="utf-8"
    )
    assert dsk("layout", "3_sks=imgs").code == 0
    assert dsk("tag", "new").code == 0
    (here / "new" / "a1.caption").write_text("x\n", encoding="utf-8")
    (here / "made").mkdir()
    (here / "made" / "dsk.toml").write_text(
        '[run]\nsteps = ["rename", "resize", "tag", "layout", "report", '
        '"export"]\n[[concept]]\nfolder = "../big"\n',
        encoding="utf-8",
    )
    shutil.copytree(here, made)
    return here


VERBS = [
    ("rename", "new", "x"),
    ("resize", "big"),
    ("resize", "big", "out", "--max", "64"),
    ("resize", "big", "--in-place"),
    ("tag", "imgs", "--existing", "overwrite"),
    ("tag", "new", "--trigger", "sks", "--threshold", "0.9"),
    ("rules", "imgs", "--exclude", "lips"),
    ("plan-repeats", "dataset", "--apply", "--steps", "500"),
    ("plan-repeats", "dataset"),
    ("layout", "9_sks=imgs"),
    ("layout", "fresh=new", "--out", "elsewhere"),
    ("reg", "women", "--class", "1girl"),
    ("reg", "women", "--class", "1girl", "--captions", "derive", "--trigger", "sks"),
    ("check", "spoiled", "--fix"),
    ("check", "new", "--csv", "found.csv", "--sheet", "found.png"),
    ("check", "dataset", "--as", "sd-scripts", "--csv", "view.csv"),
    ("report", "imgs", "--plot"),
    ("report", "dataset", "--out", "tables"),
    ("export", "dataset"),
    ("export", "dataset", "--format", "imagefolder"),
    ("import", "new", "--existing", "overwrite"),
    ("init", "new"),
    ("run", "made"),
    ("undo", "new"),
    ("undo", "dataset"),
]


@pytest.mark.parametrize("arguments", VERBS, ids=" ".join)
def test_a_dry_run_changes_nothing_at_all(dsk, project, arguments):
    before = snapshot(project)
    ended = dsk(*arguments, "--dry-run", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["dry_run"] is True and snapshot(project) == before


CHANGING = [verb for verb in VERBS if verb != ("plan-repeats", "dataset")]


@pytest.mark.parametrize("arguments", CHANGING, ids=" ".join)
def test_the_same_command_without_it_changes_something(dsk, project, arguments):
    before = snapshot(project, all_of_it=False)
    assert dsk(*arguments).code == 0
    assert snapshot(project, all_of_it=False) != before


def test_a_dry_run_in_a_fresh_folder_makes_no_project(dsk, here):
    images(here / "imgs", 2)
    dsk("tag", "imgs", "--dry-run")
    dsk("rename", "imgs", "x", "--dry-run")
    assert sorted(p.name for p in (here / "imgs").iterdir()) == ["a1.png", "a2.png"]
