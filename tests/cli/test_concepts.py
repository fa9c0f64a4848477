"""`dsk tag` by hand in a project: a concept's own table joins [tag], and the command line wins over
both.
"""

import pytest

from tests.cli import toy
from tests.cli.conftest import captions, images, snapshot

TOML = """\
[tag]
tagger = "basic"
trigger = ["common"]
exclude = ["lips"]
[[concept]]
name = "girl"
folder = "photos"
trigger = ["Sks girl"]
exclude = ["nose"]
additional = ["apron"]
[[concept]]
name = "style"
folder = "drawings"
"""
OF_RUN = "Sks girl, apron, 1girl, solo, long hair, blue eyes, =_=, baseball cap, hat"


@pytest.fixture
def project(dsk, here):
    """A project of two concepts after a run."""
    images(here / "photos", 2)
    images(here / "drawings", 1)
    (here / "dsk.toml").write_text(TOML, encoding="utf-8")
    assert dsk("run").code == 0
    return here


def test_tagging_the_work_folder_by_hand_gives_the_captions_of_the_run(dsk, project):
    assert captions(project / "work" / "girl") == dict.fromkeys(("a1", "a2"), OF_RUN)
    before = snapshot(project, all_of_it=False)
    ended = dsk("tag", "work/girl")
    assert (
        ended.code == 0
        and "wrote 0 captions" in ended.out
        and snapshot(project, all_of_it=False) == before
    )


def test_another_threshold_by_hand_keeps_the_concepts_trigger(dsk, project):
    dsk("tag", "work/girl", "--threshold", "0.9")
    assert captions(project / "work" / "girl") == dict.fromkeys(
        ("a1", "a2"), "Sks girl, apron, 1girl, solo"
    )


def test_the_folder_of_raw_images_belongs_to_the_concept_too(dsk, project):
    dsk("tag", "photos")
    assert captions(project / "photos")["a1"] == OF_RUN


def test_a_concept_without_a_trigger_has_that_of_the_tag_table(dsk, project):
    dsk("tag", "work/style", "--threshold", "0.9")
    assert captions(project / "work" / "style") == {"a1": "common, 1girl, solo"}


def test_the_command_line_wins_over_both_tables(dsk, project):
    dsk(
        "tag",
        "work/girl",
        "--threshold",
        "0.9",
        "--trigger",
        "Line",
        "--additional",
        "hat",
        "--exclude",
        "solo",
    )
    assert captions(project / "work" / "girl")["a1"] == "Line, hat, 1girl"
    dsk("tag", "work/girl", "--exclude", "solo")
    assert {"lips", "nose"} <= set(captions(project / "work" / "girl")["a1"].split(", "))


def test_any_other_folder_of_the_project_has_the_tag_table_alone(dsk, project):
    images(project / "others", 1)
    dsk("tag", "others", "--threshold", "0.9")
    assert captions(project / "others") == {"a1": "common, 1girl, solo"}


def test_it_is_found_from_any_folder_and_with_any_form_of_the_path(dsk, project, monkeypatch):
    monkeypatch.chdir(project / "work")
    dsk("tag", "../work/./girl", "--threshold", "0.9")
    assert captions(project / "work" / "girl")["a1"] == "Sks girl, apron, 1girl, solo"


def test_raw_images_that_two_concepts_share_are_refused(dsk, project):
    (project / "dsk.toml").write_text(TOML.replace('"drawings"', '"photos"'), encoding="utf-8")
    before = snapshot(project)
    ended = dsk("tag", "photos")
    assert ended.code == 2 and "photos is the folder of several concepts: girl, style" in ended.err
    assert "work/girl" in ended.err and snapshot(project) == before
    assert dsk("tag", "work/girl").code == 0


def test_without_resize_the_raw_folder_is_the_work_folder(dsk, here):
    images(here / "photos", 1)
    (here / "dsk.toml").write_text('[run]\nsteps = ["tag"]\n' + TOML, encoding="utf-8")
    dsk("tag", "photos")
    assert captions(here / "photos") == {"a1": OF_RUN} and len(toy.SEEN) == 1


def test_several_concepts_at_once_are_refused_for_their_triggers(dsk, project):
    before = snapshot(project)
    ended = dsk("tag", "work", "-r", "--threshold", "0.9")
    assert ended.code == 2 and "own trigger" in ended.err and "dsk tag" in ended.err
    assert snapshot(project) == before


def test_several_concepts_at_once_accept_a_given_trigger(dsk, project):
    assert dsk("tag", "work", "-r", "--threshold", "0.9", "--trigger", "Line").code == 0
    assert captions(project / "work" / "girl")["a1"] == "Line, 1girl, solo"
