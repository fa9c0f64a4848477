"""Sidecars of other tools become captions, and what cannot be read is named."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.captions.caption import normal_form, parse
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.dataset import exports, imports
from datasetkit.dataset.imports import TagSyntax


def put(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def image(tmp_path):
    return put(tmp_path / "image.jpg", "pixels")


def tags(text: str) -> tuple[str, ...]:
    return imports.parse_post(text).tags


def test_hydrus_namespaces_are_removed_or_their_tags_dropped():
    text = (
        "creator:somebody\ncharacter:hatsune "
        "miku\nseries:vocaloid\nrating:safe\npage:3\nlong_hair\nLong Hair\n1girl\n"
    )
    assert imports.parse_lines(text).tags == ("hatsune miku", "vocaloid", "long hair", "1girl")


def test_colons_that_are_not_namespaces_are_kept():
    text = "re:zero\n:d\n::3\n2b (nier:automata)\nclothing:skirt\nCharacter: rem\n"
    assert imports.parse_lines(text).tags == (
        "re:zero", ":d", ":3", "2b (nier:automata)", "clothing:skirt", "rem",
    )  # fmt: skip


def test_the_syntax_sets_the_namespaces_and_the_respelling():
    reading = TagSyntax(bare=frozenset({"creator"}), dropped=frozenset({"series"}), respell=False)
    text = "creator:some_body\ncharacter:miku\nseries:vocaloid\nlong_hair"
    assert imports.parse_lines(text, reading).tags == ("some_body", "character:miku", "long_hair")


@pytest.mark.parametrize(
    ("post", "expected"),
    [
        ({"tags": ["long_hair", "1girl", "long hair", "@_@"]}, ("long hair", "1girl", "@_@")),
        ({"tags": "long_hair 1girl :d"}, ("long hair", "1girl", ":d")),
        ({"tags": "long hair, 1girl"}, ("long hair", "1girl")),
        ({"tags": "solo"}, ("solo",)),
        ({"tag_string": "long_hair 1girl hello,_world"}, ("long hair", "1girl", "hello", "world")),
        (
            {
                "tags": ["somebody", "1girl", "highres", "hatsune_miku"],
                "tags_artist": ["somebody"],
                "tags_character": ["hatsune_miku"],
                "tags_copyright": ["vocaloid"],
                "tags_general": ["1girl", "^_^"],
                "tags_meta": ["highres"],
            },
            ("hatsune miku", "vocaloid", "1girl", "^_^"),
        ),
        (
            {
                "tag_string": "1girl hatsune_miku somebody",
                "tag_string_general": "1girl long_hair",
                "tag_string_character": "hatsune_miku",
                "tag_string_artist": "somebody",
                "tag_string_meta": "",
            },
            ("hatsune miku", "1girl", "long hair"),
        ),
        ({"tags_general": "1girl long_hair", "tags_artist": "somebody"}, ("1girl", "long hair")),
        (
            {
                "tags": {
                    "artist": ["somebody"],
                    "species": ["fox"],
                    "general": ["outdoors"],
                    "lore": ["x"],
                }
            },
            ("fox", "outdoors"),
        ),
        (
            {
                "tags": [
                    {"name": "猫", "translated_name": "cat"},
                    {"name": "犬", "translated_name": None},
                ]
            },
            ("cat", "犬"),
        ),
        ({"tags": ["rating:safe", "character:miku", "sky"]}, ("miku", "sky")),
        ({"tags_character": ["miku"], "tags": None}, ("miku",)),
        ({"tags": [1, None, ["x"], {"id": 3}, "sky"]}, ("sky",)),
        ({"id": 3}, ()),
    ],
)
def test_posts_are_read_in_the_forms_that_boorus_have(post, expected):
    assert tags(json.dumps(post)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 200_000, "nested too deeply|not JSON"),
    ],
)
def test_a_file_that_is_not_a_post_is_refused(text, reason):
    with pytest.raises(InputError, match=reason):
        tags(text)


def test_each_kind_finds_its_side_car(image):
    put(image.with_name("image.jpg.txt"), "character:miku\nlong_hair\n")
    put(image.with_suffix(".caption"), "a_girl, long_hair, a girl")
    put(image.with_name("image.jpg.json"), {"tags": ["sky"]})
    found = {
        kind: imports.plan_import([image], kind)[0]
        for kind in ("gallery-dl", "hydrus", "caption", "auto")
    }
    assert {kind: (i.caption.text(), i.source.name) for kind, [i] in found.items()} == {
        "gallery-dl": ("sky", "image.jpg.json"),
        "hydrus": ("miku, long hair", "image.jpg.txt"),
        "caption": ("a girl, long hair", "image.caption"),
        "auto": ("sky", "image.jpg.json"),
    }
    assert all(i.image == image for [i] in found.values())
    image.with_name("image.jpg.json").unlink()
    [(_, caption, source)], problems = imports.plan_import([image])
    assert (caption.text(), source.name, problems) == ("miku, long hair", "image.jpg.txt", [])


def test_gallery_dl_lists_are_one_tag_a_line_and_json_may_replace_the_suffix(image):
    put(image.with_name("image.jpg.txt"), "\ufefflong_hair\r\n1girl\r\nmeta:x\r\n")
    [found], _ = imports.plan_import([image], "gallery-dl")
    assert found.caption.tags == ("long hair", "1girl")
    put(image.with_suffix(".json"), {"tags": "sky"})
    [found], _ = imports.plan_import([image], "gallery-dl")
    assert found.caption.tags == ("sky",)


def test_an_image_without_a_side_car_is_neither_a_result_nor_a_failure(image):
    put(image.with_suffix(".txt"), "its own caption")
    assert imports.plan_import([image]) == ([], [])


def test_one_broken_side_car_costs_only_its_image(tmp_path):
    images = [put(tmp_path / f"{name}.png", "x") for name in ("a", "b", "c", "d", "e")]
    put(tmp_path / "a.png.txt", "sky")
    put(tmp_path / "b.png.json", "{")
    (tmp_path / "c.png.txt").write_bytes(b"\xff\xfe\x00")
    put(tmp_path / "d.png.txt", " \n")
    (tmp_path / "e.png.txt").symlink_to(tmp_path / "a.png.txt")
    found, problems = imports.plan_import(images)
    assert [(i.image.name, i.caption.text()) for i in found] == [("a.png", "sky")]
    assert [(p.path.name, p.error.split(":")[0]) for p in problems[:3]] == [
        ("b.png.json", "is not JSON"),
        ("c.png.txt", "is not UTF-8 text"),
        ("d.png.txt", "has no tags"),
    ]
    assert "regular file" in problems[3].error


def test_an_image_name_of_maximum_length_has_no_side_car(tmp_path):
    assert imports.plan_import([tmp_path / ("x" * 251 + ".png")]) == ([], [])


def test_meta_entries_are_matched_by_full_path_by_path_below_the_folder_and_by_stem(tmp_path):
    names = ["a.v2.png", "10_sks/b.png", "10_sks/c.png", "far.png"]
    images = [tmp_path / name for name in names]
    meta = put(
        tmp_path / "meta.json",
        {
            "a.v2": {"tags": "sky"},
            "10_sks/b": {"caption": "a girl", "tags": "long_hair, a girl"},
            str(tmp_path / "10_sks" / "c.png"): {"tags": "sea", "train_resolution": [512, 512]},
            "C:\\train\\far.png": {"caption": "a road"},
        },
    )
    found, problems = imports.plan_import(images, "meta", meta=meta)
    assert [(i.image, i.caption.text()) for i in found] == list(
        zip(images, ["sky", "a girl, long hair", "sea", "a road"], strict=True)
    )
    assert problems == [] and all(i.source == meta for i in found)


def test_an_ambiguous_stem_is_not_guessed_and_unused_entries_are_named(tmp_path):
    images = [
        tmp_path / "x" / "a.png",
        tmp_path / "y" / "a.png",
        tmp_path / "b.png",
        tmp_path / "c.png",
    ]
    meta = put(
        tmp_path / "meta.json",
        {"/old/a.png": {"tags": "sky"}, "b": {"tags": ""}, "/o/c": {"tags": "1"}, "/p/c": {}},
    )
    found, problems = imports.plan_import(images, "meta", meta=meta)
    assert found == []
    assert sorted(p.error for p in problems) == [
        "no image for the entry /o/c",
        "no image for the entry /old/a.png",
        "no image for the entry /p/c",
        "the entry b has no tags",
    ]


def test_side_cars_go_before_the_metadata_file(tmp_path):
    images = [tmp_path / "a.png", tmp_path / "b.png"]
    meta = put(tmp_path / "meta.json", {"a": {"tags": "from meta"}, "b": {"tags": "from meta"}})
    put(tmp_path / "a.caption", "from the sidecar")
    found, problems = imports.plan_import(images, meta=meta)
    assert [i.caption.text() for i in found] == [
        "from the sidecar",
        "from meta",
    ] and problems == []


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 3}'])
def test_a_broken_metadata_file_is_a_problem(tmp_path, content):
    found, [problem] = imports.plan_import(
        [tmp_path / "a.png"], meta=put(tmp_path / "meta.json", content)
    )
    assert found == [] and problem.path.name == "meta.json"
    missing = imports.plan_import([tmp_path / "a.png"], meta=tmp_path / "none.json")[1]
    assert [p.error for p in missing] == ["does not exist"]


def test_an_unknown_kind_and_a_missing_meta_are_refused(image):
    with pytest.raises(ConfigError, match="photoshop"):
        imports.plan_import([image], "photoshop")
    with pytest.raises(ConfigError, match="no metadata file"):
        imports.plan_import([image], "meta")


TAG = (
    st.text("ab 1_:^()é", min_size=1, max_size=8)
    .map(str.strip)
    .filter(lambda t: parse(t).tags == (t,))
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(TAG, min_size=1, max_size=4, unique_by=normal_form), min_size=1, max_size=3)
)
def test_what_meta_json_exports_is_imported_again(captions):
    folder = Path("/images")
    items = [
        exports.ImageText(folder / f"{i}.png", parse(", ".join(c))) for i, c in enumerate(captions)
    ]
    read = imports.parse_meta(exports.meta_json(items, folder), TagSyntax(respell=False))
    assert [list(read[str(i)].tags) for i in range(len(captions))] == captions
