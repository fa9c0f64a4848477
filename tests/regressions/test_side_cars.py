"""Sidecars of boorus, galleries and hydrus: no artist, no namespace and no HTML in a caption."""

from __future__ import annotations

import json

import pytest

from datasetkit.dataset.imports import parse_lines, parse_post, parse_words
from tests.cli.conftest import write_image

GRABBER = "copyright:vocaloid\ncharacter:hatsune_miku\nartist:ixy\nrating:safe\n1girl\n"
MIKU = ("vocaloid", "hatsune miku", "1girl")
# Namespaces of boorus, hydrus and galleries, and whether their tags belong into a caption.
NAMESPACES = {
    **dict.fromkeys("character copyright series general person species parody".split(), True),
    **dict.fromkeys(
        "artist creator rating title year source filename page chapter meta metadata lore "
        "contributor studio medium site circle uploader language".split(),
        False,
    ),
}


@pytest.mark.parametrize("namespace", sorted(NAMESPACES))
@pytest.mark.parametrize(
    "parse", [parse_lines, parse_words, "json"], ids=["lines", "words", "json"]
)
def test_a_namespace_is_removed_or_its_tag_left_out(parse, namespace):
    tags = [f"{namespace}:one_two", f"{namespace.title()}:three", "1girl"]
    text = json.dumps({"tags": tags}) if parse == "json" else "\n".join(tags)
    read = parse_post(text) if parse == "json" else parse(text)
    shown = ("one two", "three") if NAMESPACES[namespace] else ()
    assert read.tags == (*shown, "1girl")


@pytest.mark.parametrize("key", ["category", "type", "namespace"])
def test_the_category_of_an_object_counts_as_its_namespace(key):
    kinds = {"1girl": "general", "ixy": "Artist", "hatsune_miku": "character", "re:zero": "anime"}
    post = {"tags": [{"name": name, key: kind} for name, kind in kinds.items()]}
    assert parse_post(json.dumps(post)).tags == ("1girl", "hatsune miku", "re:zero")
    assert parse_post('{"tags": [{"name": "1girl", "type": 4}]}').tags == ("1girl",)


@pytest.mark.parametrize("tag", ["re:zero", ":d", "2b (nier:automata)", "code:vein", "foo:bar"])
def test_any_other_colon_is_part_of_the_tag(tag):
    assert parse_lines(tag).tags == (tag,)


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        ("girls&#039;_frontline", "girls' frontline"),
        ("&gt;_&lt;", ">_<"),
        ("&amp;gt;_&amp;lt;", ">_<"),
        ("rock_&amp;_roll", "rock & roll"),
        ("pok&eacute;mon", "pok\u00e9mon"),
        ("&#x27;90s", "'90s"),
        ("q&a;_b", "q&a; b"),
        ("b&w", "b&w"),
        ("&lt", "&lt"),
    ],
)
def test_entities_become_characters(escaped, text):
    assert parse_post(json.dumps({"tags": f"1girl {escaped}"})).tags == ("1girl", text)
    assert parse_post(json.dumps({"tags_general": ["1girl", escaped]})).tags == ("1girl", text)
    assert parse_lines(f"1girl\n{escaped}").tags == ("1girl", text)


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        (
            "1girl hatsune_miku long_hair looking_at_viewer smile solo",
            ("1girl", "hatsune miku", "long hair", "looking at viewer", "smile", "solo"),
        ),
        ("1girl solo smile", ("1girl", "solo", "smile")),
        ("1girl\r\nlong_hair\r\n", ("1girl", "long hair")),
        ("1girl, long_hair", ("1girl", "long hair")),
        (GRABBER, MIKU),
        ("character:hatsune_miku artist:ixy ^_^", ("hatsune miku", "^_^")),
        ("long hair", ("long hair",)),
        ("red hat\nblue hat smile\n1girl", ("red hat", "blue hat smile", "1girl")),
        ("character:hatsune miku\n1girl", ("hatsune miku", "1girl")),
        ("character:hatsune miku", ("hatsune miku",)),
        ("character:rem artist:ixy solo", ("rem", "solo")),
        ("a photo of sylvie in the garden", ("a photo of sylvie in the garden",)),
    ],
)
def test_grabber_s_tags_are_separated_by_lines_commas_or_spaces(text, tags):
    assert parse_words(text).tags == tags


@pytest.mark.parametrize("name", ["x.jpg.txt", "x.txt"])
@pytest.mark.parametrize("source", ["grabber", "hydrus"])
def test_the_side_car_may_have_the_name_of_the_caption(source, name, here, dsk):
    write_image(here / "d" / "x.jpg")
    (here / "d" / name).write_text(GRABBER, encoding="utf-8")
    for _ in range(2):  # a second import changes nothing
        assert dsk("import", "d", "--from", source).code == 0
        text = (here / "d" / "x.txt").read_text(encoding="utf-8")
        assert text == "vocaloid, hatsune miku, 1girl\n"
    dsk("undo", "d")
    assert (here / "d" / name).read_text(encoding="utf-8") == GRABBER


def test_a_caption_with_commas_is_no_side_car(here, dsk):
    write_image(here / "d" / "x.jpg")
    caption = here / "d" / "x.txt"
    caption.write_text("sks_x, artist:mine, 1girl", encoding="utf-8")
    result = dsk("import", "d", "--from", "grabber")
    assert "1 existing kept" in result.out
    assert caption.read_text(encoding="utf-8") == "sks_x, artist:mine, 1girl"


def test_a_side_car_in_another_encoding(here, dsk):
    write_image(here / "d" / "x.jpg")
    side_car = here / "d" / "x.jpg.txt"
    side_car.write_bytes("pok\u00e9mon\n1girl".encode("cp1252"))
    result = dsk("import", "d")
    assert result.code == 3 and "--encoding" in result.err
    assert dsk("import", "d", "--encoding", "cp1252").code == 0
    assert (here / "d" / "x.txt").read_text(encoding="utf-8") == "pok\u00e9mon, 1girl\n"
    side_car.write_bytes("hatsune_miku\n1girl".encode("utf-16"))
    assert dsk("import", "d", "--existing", "overwrite").code == 0
    assert (here / "d" / "x.txt").read_text(encoding="utf-8") == "hatsune miku, 1girl\n"


def test_check_finds_and_fixes_what_an_import_left(here, dsk):
    write_image(here / "d" / "x.png")
    caption = here / "d" / "x.txt"
    caption.write_text(
        "sks, character:rem, girls&#039; frontline, artist:ixy, re:zero, general: a text",
        encoding="utf-8",
    )
    checks = ("--only", "entities,namespace,origin")
    before = dsk("check", "d", *checks, "--json").json["result"]
    assert [f["check"] for f in before["findings"]] == ["entities", "namespace", "origin"]
    dsk("check", "d", *checks, "--fix")
    assert caption.read_text(encoding="utf-8") == (
        "sks, rem, girls' frontline, artist:ixy, re:zero, general: a text"
    )
    step = next(s["step"] for s in before["summaries"] if s["check"] == "origin")
    assert "--exclude 'artist:*'" in step
    dsk("rules", "d", "--exclude", "artist:*")
    assert "0 findings" in dsk("check", "d", *checks).out


def test_the_step_for_an_origin_removes_all_of_them(here, dsk):
    for n in range(4):
        write_image(here / "d" / f"{n}.png", n)
        text = f"rating:safe, sks, score:9, solo, Artist:ixy, look{n}"
        (here / "d" / f"{n}.txt").write_text(text, encoding="utf-8")
    checked = dsk("check", "d", "--only", "origin", "--json").json["result"]
    step = checked["summaries"][0]["step"]
    assert "--exclude 'artist:*,rating:*,score:*'" in step
    assert "`sks` comes first in most captions" in dsk("check", "d", "--only", "origin").out
    dsk("rules", "d", "--exclude", "artist:*,rating:*,score:*")
    assert (here / "d" / "1.txt").read_text(encoding="utf-8") == "sks, solo, look1"
