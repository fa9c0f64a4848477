"""`dsk tag`: whose captions are written, in which order, and when the model runs."""

import json

import pytest

from tests.cli import toy
from tests.cli.conftest import captions, images, snapshot, write_image

EXACT = ("tag", "./imgs", "--trigger", "MikamiYua", "--exclude", "lips,nose")
TAGGED = "MikamiYua, 1girl, solo, long hair, blue eyes, =_=, baseball cap, hat"


def test_the_command_of_the_tutorial_writes_a_caption_beside_every_image(dsk, here):
    images(here / "imgs")
    ended = dsk(*EXACT)
    assert ended.code == 0
    assert captions(here / "imgs") == {"a1": TAGGED, "a2": TAGGED, "a3": TAGGED}
    assert (
        "wrote 3 captions (toy, cpu)" in ended.out and "3 of 3 images needed inference" in ended.out
    )
    assert "exclude lips" in ended.out


def test_the_fallback_is_announced_on_stderr_and_in_json(dsk, here):
    images(here / "imgs")
    ended = dsk(*EXACT, "--json")
    assert (
        "tagging with the fallback basic" in ended.err
        and "dsk models download wd-swinv2-v3" in ended.err
    )
    assert any("tagging with the fallback basic" in text for text in ended.json["warnings"])
    assert "tagging with the fallback basic" in ended.result["notice"]


def test_brighter_images_get_other_tags_in_the_order_of_their_scores(dsk, here):
    write_image(here / "imgs" / "bright.png", 250)
    dsk("tag", "imgs")
    assert captions(here / "imgs")["bright"].startswith("1girl, white background, solo, long hair")


def test_another_threshold_needs_no_inference(dsk, here, monkeypatch):
    images(here / "imgs")
    assert dsk(*EXACT).code == 0
    assert len(toy.SEEN) == 3
    monkeypatch.setattr(toy.Toy, "scores", None)  # whoever calls it now fails
    ended = dsk(*EXACT, "--threshold", "0.6", "--json")
    assert ended.code == 0 and ended.result["inferred"] == 0
    assert captions(here / "imgs")["a1"] == "MikamiYua, 1girl, solo, long hair"
    low = dsk(*EXACT, "--threshold", "0.2", "--character-threshold", "0.5")
    assert low.code == 0 and captions(here / "imgs")["a1"].startswith(
        "MikamiYua, hatsune miku, 1girl"
    )
    assert captions(here / "imgs")["a1"].endswith("smile")


def test_a_finished_run_again_does_nothing(dsk, here):
    images(here / "imgs")
    dsk(*EXACT)
    before = snapshot(here, all_of_it=False)
    again = dsk(*EXACT)
    assert again.code == 0 and snapshot(here, all_of_it=False) == before
    assert "wrote 0 captions" in again.out and "3 unchanged" in again.out
    assert "history" not in again.out.replace("dsk history", "")
    assert len(dsk("history", "imgs", "--json").result) == 1


def test_only_a_new_image_is_inferred(dsk, here):
    images(here / "imgs")
    dsk(*EXACT)
    write_image(here / "imgs" / "new.png", 99)
    toy.SEEN.clear()
    assert "1 of 4 images needed inference" in dsk(*EXACT).out
    assert len(toy.SEEN) == 1


EDITED = "a person wrote this, 1girl"


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("skip", EDITED),
        ("overwrite", TAGGED),
        (
            "append",
            "MikamiYua, a person wrote this, 1girl, solo, long hair, blue eyes, =_=, baseball "
            "cap, hat",
        ),
        (
            "prepend",
            "MikamiYua, 1girl, solo, long hair, blue eyes, =_=, baseball cap, hat, a person "
            "wrote this",
        ),
    ],
)
def test_each_mode_for_hand_edited_captions(dsk, here, mode, wanted):
    images(here / "imgs", 2)
    dsk(*EXACT)
    (here / "imgs" / "a1.txt").write_text(EDITED + "\n", encoding="utf-8")
    ended = dsk(*EXACT, "--existing", mode)
    assert ended.code == 0 and captions(here / "imgs") == {"a1": wanted, "a2": TAGGED}
    again = dsk(*EXACT, "--existing", mode)
    assert (
        captions(here / "imgs") == {"a1": wanted, "a2": TAGGED} and "wrote 0 captions" in again.out
    )
    assert ("kept a1.png: its caption was edited by a person" in ended.out) == (mode == "skip")


@pytest.mark.parametrize("mode", ["skip", "overwrite", "append", "prepend"])
@pytest.mark.parametrize("held", [None, b"", b"\n", b"\xef\xbb\xbf", b" , ,\r\n"], ids=repr)
def test_an_empty_caption_is_overwritten_in_every_mode(dsk, here, mode, held):
    images(here / "imgs", 1)
    if held is not None:
        (here / "imgs" / "a1.txt").write_bytes(held)
    assert dsk(*EXACT, "--existing", mode).code == 0
    assert captions(here / "imgs") == {"a1": TAGGED}


@pytest.mark.parametrize("mode", ["skip", "overwrite", "append", "prepend"])
def test_a_generated_caption_stays_generated_through_a_byte_order_mark_and_crlf(dsk, here, mode):
    images(here / "imgs", 1)
    dsk(*EXACT)
    (here / "imgs" / "a1.txt").write_bytes(b"\xef\xbb\xbf" + TAGGED.encode() + b"\r\n")
    assert dsk("tag", "imgs", "--trigger", "Other", "--existing", mode).code == 0
    assert captions(here / "imgs") == {"a1": f"Other, {toy.DARK}"}


def test_an_edited_caption_with_crlf_and_one_tag_per_line_is_hand_edited(dsk, here):
    images(here / "imgs", 1)
    caption = here / "imgs" / "a1.txt"
    caption.write_bytes(b"\xef\xbb\xbfred hat\r\nmy own tag\r\n")
    dsk(*EXACT)
    assert caption.read_bytes() == b"\xef\xbb\xbfred hat\r\nmy own tag\r\n"
    dsk(*EXACT, "--existing", "append")
    assert captions(here / "imgs")["a1"].startswith("MikamiYua, red hat, my own tag, 1girl")


def test_a_dry_run_prints_the_changes_and_the_hits_of_each_rule(dsk, here):
    images(here / "imgs", 2)
    dsk(*EXACT)
    ended = dsk(*EXACT, "--additional", "masterpiece", "--exclude", "lips,eyes", "--dry-run")
    assert "a1.png: +masterpiece +nose" in ended.out
    assert "would write 2 captions" in ended.out
    rows = {
        line.rsplit(maxsplit=1)[0].strip(): line.split()[-1]
        for line in ended.out.splitlines()
        if " " in line
    }
    assert rows["exclude lips"] == "2" and rows["exclude eyes"] == "0"
    assert "did you mean @eyes" in ended.err
    assert captions(here / "imgs")["a1"] == TAGGED


def test_replace_implies_rating_and_escaped_brackets_reach_the_caption(dsk, here):
    images(here / "imgs", 1)
    ended = dsk(
        "tag", "imgs", "--replace", "solo=alone (one)", "--implies", "common", "--rating", "last",
        "--escape-brackets", "--exclude", "@face,*_hair",
    )  # fmt: skip
    assert ended.code == 0
    caption = captions(here / "imgs")["a1"]
    assert r"alone \(one\)" in caption and caption.endswith(", general")
    assert "baseball cap" in caption and ", hat" not in caption
    assert not {"lips", "nose", "long hair"} & set(caption.split(", "))


def test_additional_tags_follow_the_trigger_and_count_as_keep_tokens(dsk, here):
    images(here / "imgs", 1)
    ended = dsk("tag", "imgs", "--trigger", "sks, girl", "--additional", "masterpiece", "--json")
    assert captions(here / "imgs")["a1"].startswith("sks, girl, masterpiece, 1girl")
    assert ended.result["keep_tokens"] == 3
    assert (
        dsk("tag", "imgs", "--trigger", "sks, Sks", "--additional", "SKS,solo", "--json").result[
            "keep_tokens"
        ]
        == 2
    )


def test_a_broken_image_is_skipped_and_the_exit_code_is_3(dsk, here):
    images(here / "imgs", 2)
    (here / "imgs" / "broken.jpg").write_bytes(b"no image")
    ended = dsk(*EXACT)
    assert ended.code == 3 and set(captions(here / "imgs")) == {"a1", "a2"}
    assert "warning: broken.jpg" in ended.err and "broken" not in ended.out


def test_two_images_with_one_stem_do_not_share_a_caption(dsk, here):
    write_image(here / "imgs" / "a.jpg", 1)
    write_image(here / "imgs" / "a.png", 2)
    ended = dsk(*EXACT)
    assert ended.code == 3
    assert (
        "a.png: would share its caption with a.jpg (dsk rename makes the names unique)" in ended.err
    )
    assert dsk("rename", "imgs", "x").code == 0 and dsk(*EXACT).code == 0
    assert len(captions(here / "imgs")) == 2


def test_no_caption_is_written_where_no_tag_is_left(dsk, here):
    images(here / "imgs", 1)
    ended = dsk("tag", "imgs", "--threshold", "1")
    assert ended.code == 0 and captions(here / "imgs") == {}
    assert "an empty caption would stop the trainers" in ended.out


def test_a_named_tagger_never_falls_back(dsk, here):
    images(here / "imgs", 1)
    ended = dsk("tag", "imgs", "--tagger", "wd-vit-v3")
    assert ended.code == 12 and captions(here / "imgs") == {}
    assert "hint: run `dsk models download wd-vit-v3`" in ended.err and ended.out == ""


def test_the_table_of_dsk_toml_is_the_default_and_the_command_line_wins(dsk, here):
    images(here / "imgs", 1)
    (here / "dsk.toml").write_text(
        '[tag]\ntrigger = ["Toml"]\nthreshold = 0.9\ntagger = "basic"\n', encoding="utf-8"
    )
    dsk("tag", "imgs")
    assert captions(here / "imgs")["a1"] == "Toml, 1girl, solo"
    dsk("tag", "imgs", "--threshold", "0.98")
    assert captions(here / "imgs")["a1"] == "Toml, 1girl"
    dsk("tag", "imgs", "--threshold", "0.98", "--trigger", "Line")
    assert captions(here / "imgs")["a1"] == "Line, 1girl"


def test_json_has_one_outcome_per_image(dsk, here):
    images(here / "imgs", 2)
    (here / "imgs" / "broken.jpg").write_bytes(b"no image")
    outcomes = dsk(*EXACT, "--json").result["report"]["outcomes"]
    assert [o["is"] for o in outcomes] == ["Done", "Done", "Failed"]
    assert outcomes[0]["value"]["tags"] == TAGGED.split(", ")
    assert json.dumps(outcomes[2]["hint"]) != '""'
