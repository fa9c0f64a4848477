"""`dsk init`, `dsk run`, `dsk history`, `dsk undo`: one dsk.toml from raw images to the exported
dataset.
"""

import shutil
import tomllib

import pytest
from PIL import Image

from datasetkit.cli import console
from tests.cli import toy
from tests.cli.conftest import captions, inode, snapshot, write_image


@pytest.fixture
def project(dsk, here):
    """A project that was begun with dsk init, with four images of two shapes."""
    for n, size in enumerate([(64, 48), (48, 64), (64, 48), (1100, 550)], 1):
        write_image(here / "photos" / f"p{n}.png", n, size)
    assert dsk("init", "--images", "photos", "--trigger", "Sks").code == 0
    return here


def layout_of(project):
    (folder,) = (project / "dataset" / "train").iterdir()
    return folder


def test_init_writes_a_file_that_run_accepts(dsk, project):
    text = (project / "dsk.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["concept"][0] == {
        "name": "Sks", "folder": "photos", "trigger": ["Sks"], "exclude": []
    }  # fmt: skip
    assert dsk("run", "--dry-run").code == 0


def test_init_says_that_the_folder_of_images_does_not_exist(dsk, here):
    (here / "new").mkdir()
    ended = dsk("init", "new", "--trigger", "Sks")
    assert ended.code == 0 and "new/images does not exist yet" in ended.err
    write_image(here / "imgs" / "a.png", 1)
    assert "does not exist" not in dsk("init", "--images", "imgs", "--trigger", "Sks").err


@pytest.mark.parametrize(
    ("images", "folder", "written"),
    [
        (["sylvie"], "sylvie", "."),
        (["photos"], ".", "photos"),
        (["photos", "women"], ".", "images"),  # it is for a person to choose
        (["images", "women"], ".", "images"),
        (["images", "."], ".", "images"),
    ],
)
def test_init_finds_the_folder_of_images(images, folder, written, dsk, here):
    for name in images:
        write_image(here / name / "a.png", 1)
    ended = dsk("init", folder)
    text = (here / folder / "dsk.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["concept"][0]["folder"] == written
    assert ("does not exist yet" in ended.err) != (here / folder / written).is_dir()


def test_a_run_inside_the_folder_of_images_reads_only_its_own_images(dsk, here):
    write_image(here / "sylvie" / "a.png", 1)
    dsk("init", "sylvie")
    for _ in range(2):
        ended = dsk("run", "sylvie", "--json")
        assert ended.code == 0, ended.err
    assert [p.name for p in (here / "sylvie" / "work").iterdir()] == ["sylvie"]
    assert len(list((here / "sylvie" / "work" / "sylvie").glob("*.png"))) == 1


def test_init_never_overwrites(dsk, project):
    before = snapshot(project)
    ended = dsk("init")
    assert (
        ended.code == 2 and "dsk.toml already exists" in ended.err and snapshot(project) == before
    )


@pytest.mark.parametrize("trigger", ['quo"te', "back\\slash", "日本 語"])
def test_init_quotes_any_trigger(dsk, here, trigger):
    dsk("init", "--trigger", trigger)
    assert tomllib.loads((here / "dsk.toml").read_text(encoding="utf-8"))["concept"][0][
        "trigger"
    ] == [trigger]


def test_a_run_takes_all_steps(dsk, project):
    raw = snapshot(project / "photos")
    ended = dsk("run", "dsk.toml")
    assert ended.code == 0 and snapshot(project / "photos") == raw
    for step in (
        "== resize Sks",
        "== tag Sks",
        "== layout",
        "== report",
        "== export",
        "5 steps in",
    ):
        assert step in ended.out
    with Image.open(project / "work" / "Sks" / "p4.png") as small:
        assert small.size == (1024, 512)
    assert captions(layout_of(project)) == dict.fromkeys(
        ("p1", "p2", "p3", "p4"), f"Sks, {toy.DARK}"
    )
    assert inode(layout_of(project) / "p1.png") == inode(project / "work" / "Sks" / "p1.png")
    assert (project / "report" / "tags.png").is_file() and (
        project / "dataset" / "config.toml"
    ).is_file()


def test_a_second_run_changes_nothing_and_infers_nothing(dsk, project):
    dsk("run")
    before = snapshot(project, all_of_it=False)
    entries = dsk("history", "--json").result
    toy.SEEN.clear()
    ended = dsk("run")
    assert ended.code == 0 and toy.SEEN == []
    assert snapshot(project, all_of_it=False) == before
    assert dsk("history", "--json").result == entries


@pytest.mark.long
def test_the_project_folder_may_be_deleted(dsk, project):
    dsk("run")
    before = snapshot(project, all_of_it=False)
    shutil.rmtree(project / ".dsk")
    ended = dsk("run")
    assert ended.code == 0, ended.err
    assert snapshot(project, all_of_it=False) == before


def test_only_a_new_image_is_processed(dsk, project):
    dsk("run")
    made = {p.name: p.stat().st_mtime_ns for p in (project / "work" / "Sks").iterdir()}
    write_image(project / "photos" / "new.png", 77)
    toy.SEEN.clear()
    ended = dsk("run")
    assert ended.code == 0 and len(toy.SEEN) == 1 and "wrote 1 image to work/Sks" in ended.out
    after = {p.name: p.stat().st_mtime_ns for p in (project / "work" / "Sks").iterdir()}
    assert {name: after[name] for name in made} == made and set(after) - set(made) == {
        "new.png",
        "new.txt",
    }
    assert "new" in captions(layout_of(project))


@pytest.mark.long
def test_a_deleted_image_is_named_and_removed_from_the_dataset(dsk, project):
    dsk("run")
    (project / "photos" / "p2.png").unlink()
    ended = dsk("run")
    assert ended.code == 0 and "p2.png" in ended.out + ended.err
    assert "p2" not in captions(layout_of(project)) and not (layout_of(project) / "p2.png").exists()


def test_an_edited_caption_is_kept_and_laid_out(dsk, project):
    dsk("run")
    (project / "work" / "Sks" / "p1.txt").write_text("Sks, mine\n", encoding="utf-8")
    ended = dsk("run")
    assert "kept p1.png: its caption was edited by a person" in ended.out
    assert captions(layout_of(project))["p1"] == "Sks, mine"


def test_a_broken_image_is_listed_and_the_others_are_processed(dsk, project):
    (project / "photos" / "broken.jpg").write_bytes(b"nothing")
    ended = dsk("run")
    assert ended.code == 3 and "broken.jpg" in ended.err and "1 item failed" in ended.out
    assert len(captions(layout_of(project))) == 4


def test_a_run_can_be_started_from_elsewhere_with_the_folder(
    dsk, project, tmp_path_factory, monkeypatch
):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert dsk("run", project).code == 0
    assert (project / "report" / "tags.csv").is_file() and len(captions(layout_of(project))) == 4


@pytest.mark.long
def test_all_steps_with_rename_and_a_reg_set(dsk, project):
    for n in range(3):
        write_image(project / "women" / f"w {n}.png", 100 + n, (1100, 1100))
    toml = project / "dsk.toml"
    # The order in the file does not count.
    text = toml.read_text(encoding="utf-8").replace(
        'steps = ["resize"', 'steps = ["rename", "reg", "resize"'
    )
    text = text.replace("# [reg]", "[reg]").replace('# folder = "reg-images"', 'folder = "women"')
    toml.write_text(
        text.replace('# class_name = "1girl"', 'class_name = "1girl"'), encoding="utf-8"
    )
    dry = dsk("run", "--dry-run")
    assert dry.code == 0 and "move   p1.png -> Sks_001.png" in dry.out
    assert "cannot be predicted before those steps are run: tag Sks, layout, reg" in dry.out
    ended = dsk("run")
    assert ended.code == 0, ended.err
    heads = [line for line in ended.out.splitlines() if line.startswith("==")]
    assert heads == [
        "== rename Sks", "== resize Sks", "== resize reg", "== tag Sks", "== layout", "== reg",
        "== report", "== export"
    ]  # fmt: skip
    assert sorted(p.name for p in (project / "photos").iterdir()) == [
        f"Sks_00{n}.png" for n in range(1, 5)
    ]
    (reg,) = (project / "dataset" / "reg").iterdir()
    with Image.open(reg / "w 0.png") as small:
        assert small.size == (1024, 1024)
    before = snapshot(project, all_of_it=False)
    assert dsk("run").code == 0 and snapshot(project, all_of_it=False) == before
    assert dsk("run", "--dry-run").code == 0 and snapshot(project, all_of_it=False) == before


def test_concepts_have_their_own_rules_beside_the_common_ones(dsk, project):
    write_image(project / "more" / "q1.png", 9)
    (project / "dsk.toml").write_text(
        '[run]\nsteps = ["tag", "layout"]\n[tag]\ntagger = "basic"\nexclude = ["lips"]\n'
        '[[concept]]\nfolder = "photos"\ntrigger = ["Sks"]\nexclude = ["nose"]\nrepeats = 2\n'
        '[[concept]]\nname = "maid"\nfolder = "more"\ntrigger = ["maid x"]\nadditional = '
        '["apron"]\n',
        encoding="utf-8",
    )
    assert dsk("run").code == 0
    train = project / "dataset" / "train"
    assert (
        captions(train / "2_Sks")["p1"]
        == "Sks, 1girl, solo, long hair, blue eyes, =_=, baseball cap, hat"
    )
    (maid,) = train.glob("*_maid")
    assert (
        captions(maid)["q1"].startswith("maid x, apron, 1girl") and "nose" in captions(maid)["q1"]
    )


def test_an_error_in_any_table_stops_the_run_before_the_first_step(dsk, project):
    with (project / "dsk.toml").open("a", encoding="utf-8") as file:
        file.write("[export]\nformt = 'kohya'\n")
    before = snapshot(project)
    ended = dsk("run")
    assert (
        ended.code == 2
        and "unknown key 'formt'" in ended.err
        and "did you mean 'format'" in ended.err
    )
    assert snapshot(project) == before


def test_a_file_with_another_name_is_refused(dsk, project):
    (project / "dsk.toml").rename(project / "other.toml")
    ended = dsk("run", "other.toml")
    assert ended.code == 2 and "is not named dsk.toml" in ended.err


def test_a_file_without_concepts_is_an_error(dsk, here):
    (here / "dsk.toml").write_text("[run]\n", encoding="utf-8")
    ended = dsk("run")
    assert ended.code == 2 and "has no [[concept]]" in ended.err


def test_the_history_lists_the_commands_and_undo_reverts_them_one_by_one(dsk, project):
    clean = snapshot(project, all_of_it=False)
    dsk("run")
    entries = dsk("history", "--json").result
    assert [e["verb"] for e in entries] == ["export", "report", "layout", "tag", "resize", "init"]
    shown = dsk("history").out
    assert all(verb in shown for verb in ("export", "report", "layout", "tag", "resize", "init"))
    assert "would undo export" in dsk("undo", "--dry-run").out
    assert (project / "dataset" / "config.toml").is_file()
    assert "undid export" in dsk("undo").out and not (project / "dataset" / "config.toml").exists()
    resize = next(e["id"] for e in entries if e["verb"] == "resize")
    ended = dsk("undo", "--to", resize)
    assert ended.code == 0, ended.err
    after = snapshot(project, all_of_it=False)
    assert {k: v for k, v in after.items() if v[0] != "folder"} == {
        k: v for k, v in clean.items() if v[0] != "folder"
    }


def test_undo_refuses_a_file_that_was_changed_since_unless_partial(dsk, project):
    dsk("run")
    dsk(
        "undo",
        "--to",
        next(e["id"] for e in dsk("history", "--json").result if e["verb"] == "layout"),
    )
    caption = project / "work" / "Sks" / "p1.txt"
    caption.write_text("mine\n", encoding="utf-8")
    refused = dsk("undo")
    assert (
        refused.code == 2
        and "p1.txt has changed since" in refused.err
        and "--partial" in refused.err
    )
    assert len(captions(project / "work" / "Sks")) == 4
    partial = dsk("undo", "--partial")
    assert partial.code == 0 and "not undone: p1.txt has changed since" in partial.err
    assert captions(project / "work" / "Sks") == {"p1": "mine"}


def test_a_folder_without_history_names_those_that_have_one(dsk, here):
    write_image(here / "imgs" / "a.png", 1)
    dsk("tag", "imgs")
    ended = dsk("history", "--recover")
    assert ended.code == 2 and "these folders have one: imgs" in ended.err


@pytest.mark.parametrize(
    ("toml", "code", "message"),
    [
        (
            '[[concept]]\nfolder = "photos"\n[[concept]]\nfolder = "more"\nname = "Photos"',
            2,
            "two concepts are named",
        ),
        ('[[concept]]\nfolder = "photos"\nname = "../out"', 2, "the concept contains a slash"),
        (
            '[[concept]]\nfolder = "photos"\n[[concept]]\nfolder = "nowhere"',
            10,
            "nowhere does not exist",
        ),
        (
            '[[concept]]\nfolder = "photos"\n[[concept]]\nfolder = "empty"',
            10,
            "empty holds no images",
        ),
        ('[[concept]]\nfolder = "photos"\ntrigger = ["a, b"]', 2, "'a, b' cannot be a trigger"),
        ('[[concept]]\nfolder = "photos"\nexclude = ["@fce"]', 2, "did you mean @face?"),
        (
            '[[concept]]\nfolder = "photos"\n[run]\nsteps = ["resize", "layout", "reg"]',
            2,
            "a folder and a class",
        ),
        (
            '[[concept]]\nfolder = "photos"\n[run]\nsteps = ["resize", "layout", "reg"]\n'
            '[reg]\nclass_name = "1girl"\nfolder = "nobody"',
            10,
            "nobody does not exist",
        ),
        (
            '[[concept]]\nfolder = "photos"\n[resize]\nin_place = true',
            2,
            "in_place = true is not supported in a run",
        ),
    ],
)
def test_errors_of_later_steps_stop_the_run_before_the_first_step(
    dsk, project, toml, code, message
):
    write_image(project / "more" / "q1.png", 9)
    (project / "empty").mkdir()
    (project / "dsk.toml").write_text(toml + "\n", encoding="utf-8")
    before = snapshot(project, all_of_it=False)
    for dry in ((), ("--dry-run",)):
        ended = dsk("run", *dry)
        assert ended.code == code and message in ended.err and ended.out == ""
    assert snapshot(project, all_of_it=False) == before


@pytest.mark.long
def test_a_step_is_named_before_its_warnings_and_no_warning_is_repeated(dsk, project, monkeypatch):
    write_image(project / "more" / "q1.png", 9)
    with (project / "dsk.toml").open("a", encoding="utf-8") as file:
        file.write('[[concept]]\nfolder = "more"\n')
    dsk("run")
    monkeypatch.setattr(console, "_err", console._out)
    message = dsk("run", "--dry-run").out
    assert (
        message.index("== tag Sks")
        < message.index("tagging with the fallback basic")
        < message.index("== tag more")
    )
    assert message.count("tagging with the fallback basic") == 1


@pytest.mark.long
def test_a_run_reports_the_images_renamed_with_their_sources(dsk, project):
    dsk("run")
    (project / "photos" / "p1.png").rename(project / "photos" / "first.png")
    (project / "photos" / "p2.png").unlink()
    dry = dsk("run", "--dry-run").out
    assert (
        "would be renamed with the originals: p1.png -> first.png" in dry
        and "would be moved to .dsk/trash: p2.png" in dry
    )
    ended = dsk("run").out
    assert "  renamed with the originals: p1.png -> first.png" in ended
    assert "  moved to .dsk/trash: p2.png" in ended
    assert (project / "work" / "Sks" / "first.txt").is_file()


@pytest.mark.long
def test_an_edited_image_is_not_reported_as_removed(dsk, project):
    dsk("run")
    write_image(project / "photos" / "p1.png", 90)
    ended = dsk("run")
    assert "updated dataset: " in ended.out and ".dsk/trash" not in ended.out


def test_a_second_run_reports_that_nothing_changed(dsk, project):
    dsk("run")
    message = dsk("run").out
    assert "work/Sks: 4 images, all up to date" in message and "_Sks unchanged" in message
    assert "tables in report unchanged" in message
    assert (
        "dataset/dataset.toml unchanged" in message and "dataset/config.toml unchanged" in message
    )
    assert "(history" not in message and not any(
        line.startswith("wrote data") for line in message.splitlines()
    )


@pytest.mark.long
def test_the_work_folder_of_a_renamed_concept_is_named(dsk, project):
    assert "of no concept" not in dsk("run").out
    toml = project / "dsk.toml"
    toml.write_text(
        toml.read_text(encoding="utf-8").replace('name = "Sks"', 'name = "Other"'), encoding="utf-8"
    )
    ended = dsk("run")
    assert ended.code == 0 and "work/Sks belongs to no concept of dsk.toml" in ended.out
    assert "work/Other is" not in ended.out and (project / "work" / "Sks" / "p1.txt").is_file()
