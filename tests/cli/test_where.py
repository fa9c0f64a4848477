"""`--where`: rules and reports on the images that pass a filter, and on no others."""

import csv
import io

import pytest
from PIL import Image

from tests.cli.conftest import captions, images, snapshot, write_image

CAPTIONS = ["solo, lips, blue_eyes", "solo, hat", "1girl, lips"]


@pytest.fixture
def captioned(here):
    for path, text in zip(images(here / "imgs"), CAPTIONS, strict=True):
        path.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
    return here / "imgs"


def test_rules_change_only_images_that_pass(dsk, captioned):
    ended = dsk("rules", "imgs", "--exclude", "lips", "--where", "tag:solo")
    assert ended.code == 0
    assert "changed 1 caption (1 image excluded by the filter)" in ended.out
    assert captions(captioned) == {"a1": "solo, blue_eyes", "a2": "solo, hat", "a3": "1girl, lips"}


def test_a_dry_run_counts_the_same_and_writes_nothing(dsk, captioned):
    before = snapshot(captioned)
    ended = dsk(
        "rules",
        "imgs",
        "--trigger",
        "sks",
        "--where",
        "NOT tag:solo OR name:a1",
        "--dry-run",
        "--json",
    )
    assert snapshot(captioned) == before
    assert [change["path"] for change in ended.result["changes"]] == ["imgs/a1.png", "imgs/a3.png"]
    assert ended.result["left_out"] == 1
    assert len(ended.result["report"]["outcomes"]) == 2


def test_the_history_has_the_filter(dsk, captioned):
    dsk("rules", "imgs", "--exclude", "lips", "--where", 'tag:"blue eyes"')
    assert 'imgs where tag:"blue eyes"' in dsk("history", "imgs").out
    dsk("undo", "imgs")
    assert captions(captioned)["a1"] == CAPTIONS[0]


def test_a_filter_that_no_image_passes_changes_nothing_and_warns(dsk, captioned):
    before = snapshot(captioned, all_of_it=False)
    ended = dsk("rules", "imgs", "--exclude", "lips", "--where", "tag:nose")
    assert ended.code == 0 and "changed 0 captions (3 images excluded by the filter)" in ended.out
    assert "warning: no image passes the filter tag:nose" in ended.err
    assert snapshot(captioned, all_of_it=False) == before


@pytest.mark.parametrize("command", [("rules", "--exclude", "lips"), ("report",)])
@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("tag:blue eyes", "filter, character 10: AND or OR is missing before 'eyes'"),
        ("tagg:lips", "did you mean tag:?"),
        ("(tag:lips", "unmatched ("),
        ("tag:", "the text is empty"),
    ],
)
def test_an_invalid_filter_is_refused_before_anything_else(dsk, here, command, where, message):
    verb, *rest = command
    ended = dsk(verb, "nowhere", *rest, "--where", where)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err and "hint: " in ended.err


def test_an_empty_filter_passes_all(dsk, captioned):
    assert "changed 2 captions  (" in dsk("rules", "imgs", "--exclude", "lips", "--where", "").out


def test_missing_scores_are_reported(dsk, captioned):
    ended = dsk("rules", "imgs", "--exclude", "lips", "--where", "score:lips<0.5", "--json")
    assert ended.code == 0 and ended.result["left_out"] == 3
    assert ended.json["warnings"] == [
        "no image has scores, so `score:` matches nothing; run dsk tag first",
        "no image passes the filter score:lips<0.5",
        *ended.result["warnings"],
    ]
    assert len(ended.result["warnings"]) == 1
    assert "run dsk tag first" in ended.err


def test_scores_come_from_the_store(dsk, here):
    dark, light = (
        write_image(here / "imgs" / "dark.png", 5),
        write_image(here / "imgs" / "light.png", 250),
    )
    dsk("tag", "imgs", "--tagger", "basic")
    before = captions(here / "imgs")
    assert "white background" in before["light"]
    ended = dsk(
        "rules", "imgs", "--additional", "bright", "--where", 'score:"white background">=0.9'
    )
    assert ended.code == 0 and "changed 1 caption (1 image excluded" in ended.out
    assert captions(here / "imgs") == {
        "dark": before["dark"],
        "light": f"bright, {before['light']}",
    }
    # A tag that the threshold left out has its score all the same.
    assert (
        dsk("rules", "imgs", "--additional", "x", "--where", "score:smile=0.2", "--json").result[
            "left_out"
        ]
        == 0
    )
    assert dark.exists() and light.exists()


def test_edited_captions_are_distinguished_from_those_of_dsk(dsk, here):
    images(here / "imgs")
    dsk("tag", "imgs", "--tagger", "basic")
    (here / "imgs" / "a2.txt").write_text("by hand\n", encoding="utf-8")
    ended = dsk(
        "rules", "imgs", "--additional", "x", "--where", "edited:yes", "--json", "--dry-run"
    )
    assert [change["path"] for change in ended.result["changes"]] == ["imgs/a2.png"]


def test_near_duplicates_are_found_and_stored(dsk, here, captioned):
    # The three differ by one shade of grey: near-duplicates all. A striped one is not.
    striped = write_image(here / "imgs" / "b.png", 200)
    with Image.open(striped) as image:
        image.paste((0, 0, 0), (0, 0, 30, 48))
        image.paste((255, 0, 0), (0, 0, 64, 9))
        image.save(striped)
    striped.with_suffix(".txt").write_text("solo\n", encoding="utf-8")
    chosen = dsk(
        "rules", "imgs", "--additional", "x", "--where", "dup:no", "--json", "--dry-run"
    ).result
    assert [change["path"] for change in chosen["changes"]] == ["imgs/b.png"]
    assert (
        dsk("rules", "imgs", "--additional", "x", "--where", "dup:yes", "--json").result["left_out"]
        == 1
    )


def test_concepts_and_repeats_are_those_of_the_folders(dsk, here):
    for concept, tag in (("10_sks girl", "girl"), ("3_style", "style")):
        for path in images(here / "dataset" / "train" / concept, 2):
            path.with_suffix(".txt").write_text(tag + "\n", encoding="utf-8")
    command = (
        "rules",
        "dataset",
        "--recursive",
        "--additional",
        "x",
        "--dry-run",
        "--json",
        "--where",
    )
    for where, tag in (
        ('concept:"sks girl"', "girl"),
        ("concept:s*e", "style"),
        ("repeats:>=10", "girl"),
        ("path:train/3_", "style"),
        ("NOT path:10_sks*", "style"),
    ):
        changes = dsk(*command, where).result["changes"]
        assert [change["before"]["tags"] for change in changes] == [[tag], [tag]], where


def test_an_unreadable_image_is_listed_with_any_filter(dsk, captioned):
    (captioned / "bad.png").write_bytes(b"no image")
    ended = dsk("rules", "imgs", "--exclude", "lips", "--where", "tag:hat")
    assert ended.code == 3 and "bad.png" in ended.err


# ---- report
# --------------------------------------------------------------------------------------------------


def test_a_report_counts_only_images_that_pass(dsk, here, captioned):
    ended = dsk("report", "imgs", "--where", "tag:lips", "--out", "tables")
    assert ended.code == 0
    assert "4 tags on 2 images (1 image excluded by the filter)" in ended.out
    rows = list(
        csv.DictReader(io.StringIO((here / "tables" / "tags.csv").read_bytes().decode("utf-8-sig")))
    )
    assert {row["tag"]: row["images"] for row in rows if row["concept"] == "(total)"} == {
        "solo": "1", "lips": "2", "blue_eyes": "1", "1girl": "1",
    }  # fmt: skip


def test_an_empty_report_is_refused(dsk, here, captioned):
    ended = dsk("report", "imgs", "--where", "tag:nose", "--out", "tables")
    assert ended.code == 10 and not (here / "tables").exists()
    assert "no image of imgs that passes the filter has a caption" in ended.err


def test_a_report_has_the_concepts_of_a_laid_out_dataset(dsk, here):
    for concept, tag in (("10_sks girl", "girl"), ("3_style", "style")):
        for path in images(here / "dataset" / "train" / concept, 2):
            path.with_suffix(".txt").write_text(tag + "\n", encoding="utf-8")
    ended = dsk("report", "dataset", "--where", "repeats:3 AND path:train/*", "--json")
    assert ended.result["images"] == 2 and ended.result["left_out"] == 2
    assert [row["tag"] for row in ended.result["top"]] == ["style"]


# ---- dsk.toml
# --------------------------------------------------------------------------------------------------


def test_the_filter_of_dsk_toml_is_the_default(dsk, here, captioned):
    (here / "dsk.toml").write_text(
        "[rules]\nwhere = 'tag:hat'\n[report]\nwhere = 'tag:lips'\n", encoding="utf-8"
    )
    command = ("rules", "imgs", "--trigger", "sks", "--dry-run", "--json")
    assert dsk(*command).result["left_out"] == 2
    assert dsk(*command, "--where", "").result["left_out"] == 0
    assert dsk(*command, "--where", "tag:lips").result["left_out"] == 1
    assert dsk("report", "imgs", "--json").result["left_out"] == 1


def test_an_invalid_filter_in_dsk_toml_is_an_error_of_any_command(dsk, here, captioned):
    (here / "dsk.toml").write_text("[report]\nwhere = 'tag:('\n", encoding="utf-8")
    ended = dsk("rename", "imgs", "x")
    assert ended.code == 2
    assert "dsk.toml [report]: filter, character 5: the text is empty" in ended.err


def test_tagging_has_no_filter(dsk, here, captioned):
    (here / "dsk.toml").write_text("[tag]\nwhere = 'tag:hat'\n", encoding="utf-8")
    ended = dsk("tag", "imgs")
    assert ended.code == 2 and "unknown key 'where'" in ended.err
