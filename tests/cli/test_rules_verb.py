"""`dsk rules`: captions that exist, changed by rules, in the order that a person gave them."""

import pytest

from tests.cli.conftest import captions, images, snapshot


@pytest.fixture
def captioned(here):
    for path, text in zip(
        images(here / "imgs"),
        ("zebra, lips, MikamiYua, 1girl, long hair", "long hair, 1girl, blue eyes", "solo"),
        strict=True,
    ):
        path.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
    return here / "imgs"


def test_the_other_tags_keep_their_order(dsk, captioned):
    assert dsk("rules", "imgs", "--trigger", "MikamiYua", "--exclude", "lips").code == 0
    assert captions(captioned) == {
        "a1": "MikamiYua, zebra, 1girl, long hair",
        "a2": "MikamiYua, long hair, 1girl, blue eyes",
        "a3": "MikamiYua, solo",
    }


def test_a_dry_run_shows_each_change_and_how_many_captions_a_rule_changes(dsk, captioned):
    before = snapshot(captioned)
    ended = dsk("rules", "imgs", "--exclude", "lips,@eyes", "--replace", "solo=alone", "--dry-run")
    assert ended.code == 0 and snapshot(captioned) == before
    assert (
        "a1.png: -lips" in ended.out
        and "a2.png: -blue eyes" in ended.out
        and "a3.png: -solo +alone" in ended.out
    )
    assert "would change 3 captions" in ended.out
    rows = [line.split() for line in ended.out.splitlines()]
    assert ["exclude", "lips", "1"] in rows and ["exclude", "@eyes", "1"] in rows
    assert ["replace", "solo", "->", "alone", "1"] in rows or ["replace", "solo=alone", "1"] in rows


def test_a_new_order_is_shown_as_such(dsk, captioned):
    assert "a1.png: (order)" in dsk("rules", "imgs", "--trigger", "MikamiYua", "--dry-run").out


def test_a_rule_that_matches_nothing_warns_with_the_nearest_tag(dsk, captioned):
    ended = dsk("rules", "imgs", "--exclude", "blue eys,eyes", "--json")
    assert ended.code == 0
    assert [hit["captions"] for hit in ended.result["hits"]] == [0, 0]
    near, group = ended.result["warnings"]
    assert "'blue eyes'" in near and "did you mean @eyes" in group
    assert dsk("rules", "imgs", "--exclude", "blue eys").err == f"warning: {near}\n"


@pytest.mark.parametrize(
    ("written", "group"),
    [
        ("hiar", "hair"),
        ("hairs", "hair"),
        ("faec", "face"),
        ("eys", "eyes"),
        ("backgroud", "background"),
    ],
)
def test_a_misspelt_group_is_suggested_before_a_rare_tag(dsk, captioned, written, group):
    warning = dsk("rules", "imgs", "--exclude", written).err
    assert f"did you mean @{group} (" in warning and "nearest tag" not in warning


def test_no_caption_is_emptied(dsk, captioned):
    ended = dsk("rules", "imgs", "--exclude", "solo", "--json")
    assert captions(captioned)["a3"] == "solo"
    reasons = [o["reason"] for o in ended.result["report"]["outcomes"] if o["is"] == "Skipped"]
    assert reasons == ["no tag would be left, and an empty caption would stop the trainers"]


def test_the_hint_for_an_image_without_a_caption_is_dsk_tag(dsk, captioned):
    (captioned / "a3.txt").unlink()
    ended = dsk("rules", "imgs", "--exclude", "lips")
    assert ended.code == 0 and "1 image without a caption: dsk tag writes one" in ended.err
    assert not (captioned / "a3.txt").exists()


def test_a_second_run_changes_nothing_and_undo_reverts_the_first(dsk, captioned):
    before = captions(captioned)
    dsk("rules", "imgs", "--exclude", "lips", "--trigger", "sks")
    after = snapshot(captioned, all_of_it=False)
    assert "changed 0 captions" in dsk("rules", "imgs", "--exclude", "lips", "--trigger", "sks").out
    assert snapshot(captioned, all_of_it=False) == after
    assert dsk("undo", "imgs").code == 0 and captions(captioned) == before


def test_a_hand_edited_caption_is_still_one_after_rules_changed_it(dsk, captioned):
    dsk("rules", "imgs", "--exclude", "lips")
    dsk("tag", "imgs", "--tagger", "basic")
    assert captions(captioned)["a1"] == "zebra, MikamiYua, 1girl, long hair"


def test_an_unreadable_caption_only_skips_its_image(dsk, captioned):
    (captioned / "a1.txt").write_bytes(b"\xff\xfe lips")
    ended = dsk("rules", "imgs", "--exclude", "long hair")
    assert ended.code == 3 and "a1.png" in ended.err and "not UTF-8" in ended.err
    assert (captioned / "a2.txt").read_text(encoding="utf-8") == "1girl, blue eyes\n"
    assert (captioned / "a1.txt").read_bytes() == b"\xff\xfe lips"


def test_the_groups_are_printed_with_their_tags(dsk, here):
    ended = dsk("rules", "groups")
    assert ended.code == 0
    for name in ("@face", "@hair", "@eyes", "@background", "@clothes", "@count", "@meta"):
        assert f"{name}: " in ended.out
    assert "lips" in ended.out
    names = {group["name"] for group in dsk("rules", "groups", "--json").result}
    assert {"face", "hair", "eyes"} <= names


def test_a_folder_named_groups_is_a_folder(dsk, here):
    path = images(here / "groups", 1)[0]
    path.with_suffix(".txt").write_text("lips, solo\n", encoding="utf-8")
    assert "changed 1 caption " in dsk("rules", "groups", "--exclude", "lips").out
