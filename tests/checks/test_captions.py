"""The checks of captions and of what they say: for each one a caption that is found, and one that
nearly is.
"""

import pytest

from datasetkit import api
from datasetkit.captions.contradictions import contradictions, load_contradictions
from datasetkit.captions.vocabulary import load
from datasetkit.checks.base import CheckFolder
from datasetkit.checks.captions import likely_kind, with_triggers_first
from tests.checks.folders import caption, findings, laid_out, names, sound, write_image


@pytest.fixture
def imgs(tmp_path):
    return sound(tmp_path / "imgs")


def write(name: str, data: bytes):
    return lambda folder: (folder / name).write_bytes(data)


def says(name: str, text: str):
    return write(f"{name}.txt", f"{text}\n".encode())


def renamed(old: str, new: str):
    return lambda folder: (folder / old).rename(folder / new)


def excluding(text: str):
    """Exclude lips in dsk.toml, and write a caption."""

    def change(folder):
        (folder / "dsk.toml").write_text('[tag]\nexclude = ["lips", "@hair"]\n', encoding="utf-8")
        (folder / "b.txt").write_text(f"{text}\n", encoding="utf-8")

    return change


LONG = ", ".join(["sks", "1girl", *(f"a sentence of seven words number {n}" for n in range(10))])
# check: what is done to the captions so that one is found, what nearly does it, the image that is
# found
CASES = {
    "caption-missing": (lambda f: (f / "b.txt").unlink(), renamed("b.txt", "b.caption"), "b.png"),
    "caption-empty": (write("b.txt", b""), write("b.txt", b"sks"), "b.png"),
    "caption-unreadable": (
        write("b.txt", b"sks, caf\xe9\n"),
        write("b.txt", "sks, café\n".encode()),
        "b.png",
    ),
    "bom": (
        write("b.txt", b"\xef\xbb\xbfsks, 1girl, smile, hat\n"),
        write("b.txt", b"sks, 1girl, smile, hat"),
        "b.png",
    ),
    "invisible": (
        write("b.txt", "sks, 1girl, smi\u200ble\n".encode()),
        write("b.txt", "sks, 1girl, می\u200cخواهم\n".encode()),
        "b.png",
    ),
    "lines": (
        write("b.txt", b"sks, 1girl\nsmile, hat\n"),
        write("b.txt", b"\r\n sks, 1girl, smile, hat\r\n\r\n"),
        "b.png",
    ),
    "caption-name": (
        renamed("b.txt", "b.caption"),
        lambda f: (f / "notes.md").write_text("no caption"),
        "b.png",
    ),
    "trigger-missing": (says("b", "1girl, smile, hat"), says("b", "1girl, SKS, hat"), "b.png"),
    "mentions-excluded": (
        excluding("sks, A girl with red lips and long hair."),
        excluding("sks, A girl with wet hair ponders lipids."),
        "b.png",
    ),
    "trigger-twice": (
        says("b", "sks, 1girl, smile, Sks"),
        says("b", "sks, 1girl, sks dog"),
        "b.png",
    ),
    "trigger-first": (says("b", "1girl, sks, hat"), says("b", "SKS, 1girl, hat"), "b.png"),
    "trigger-number": (
        says("b", "sks, mrs sks, 1girl, hat"),
        says("b", "sks, 1girl, mrs sks"),
        "b.png",
    ),
    "tag-twice": (
        says("b", "sks, hat, long_hair, long hair"),
        says("b", "sks, hat, ^_^, ^ ^"),
        "b.png",
    ),
    "separator": (
        says("b", "sks，1girl，hat"),
        says("b", "sks, a hat, worn by 1girl"),
        "b.png",
    ),
    "letters": (
        says("b", "sks, she doesn’t smile, “１girl”"),
        says("b", "sks, 初音ミク！, 你好“世界”, п’ять, pokémon, ＞_＜, ´ω｀"),
        "b.png",
    ),
    "underscores": (says("b", "sks, long_hair"), says("b", "sks_x, long hair, ^_^"), "b.png"),
    "prompt-syntax": (
        says("b", "sks, (long hair:1.2), hat"),
        says("b", "sks, fate (series), (o)_(o), :("),
        "b.png",
    ),
    "tokens": (says("b", LONG), says("b", ", ".join(["sks", *["hat"] * 37])), "b.png"),
    "caption-stray": (
        lambda f: caption(f / "gone.png", "sks"),
        lambda f: (f / "gone.md").write_text("x"),
        "gone.txt",
    ),
    "unknown": (says("b", "sks, 1girl, long hiar"), says("b", "sks, 1girl, Long_Hair"), "b.png"),
    "entities": (says("b", "sks, &gt;_&lt;"), says("b", "sks, b&w, >_<"), "b.png"),
    "namespace": (
        says("b", "sks, character:rem"),
        says("b", "sks, re:zero, general: a text, :d"),
        "b.png",
    ),
    "origin": (says("b", "sks, artist:ixy"), says("b", "sks, foo:bar, character:x"), "b.png"),
    "contradiction": (
        says("b", "sks, 1girl, solo, 2girls"),
        says("b", "sks, 2girls, multiple girls"),
        "b.png",
    ),
    "redundant": (
        says("b", "sks, long hair, very long hair"),
        says("b", "sks, very long hair"),
        "b.png",
    ),
    "in-all": (says("c", "sks, 1girl, hat"), says("c", "sks, hat"), "imgs"),
    "singleton": (
        says("b", "sks, 1girl, smile, hat, tree"),
        says("b", "sks, 1girl, smile, hat, sks"),
        "b.png",
    ),
}


@pytest.mark.parametrize("check", CASES)
def test_a_caption_is_found(check, imgs):
    spoil, _, found = CASES[check]
    spoil(imgs)
    assert names(imgs, check) == {found}


@pytest.mark.parametrize("check", CASES)
def test_a_caption_just_within_the_limit_is_not_found(check, imgs):
    _, nearly, _ = CASES[check]
    nearly(imgs)
    assert findings(imgs, check) == ()


def reason(folder, check: str, **options: object) -> str:
    (found,) = findings(folder, check, **options)
    return found.reason


# ---- files
# --------------------------------------------------------------------------------------------------


def test_an_image_without_caption_names_what_is_trained_instead(imgs, tmp_path):
    (imgs / "b.txt").unlink()
    assert reason(imgs, "caption-missing") == "has no caption: it is trained without text"
    root = laid_out(tmp_path / "set")
    (root / "train" / "3_sks" / "b.txt").unlink()
    assert reason(root, "caption-missing") == "has no caption: `sks` is used as its caption"


def test_sd_scripts_uses_the_caption_of_a_shorter_stem(imgs):
    write_image(imgs / "a_1_2_3_4.png", 40)
    assert (
        reason(imgs, "caption-missing")
        == "has no caption: sd-scripts uses a.txt, which has a shorter stem"
    )


def test_a_caption_of_blanks_is_empty_too(imgs):
    (imgs / "a.txt").write_bytes(b" , \n")
    (imgs / "b.txt").write_bytes(b"")
    message = {f.path.name: f.reason for f in findings(imgs, "caption-empty")}
    assert message == {
        "a.png": "its caption file has no tags: it is trained without text",
        "b.png": "its caption file has 0 bytes: sd-scripts stops with an error",
    }


def test_a_linked_caption_is_not_read(imgs, tmp_path):
    (imgs / "b.txt").unlink()
    (tmp_path / "secret").write_text("theirs", encoding="utf-8")
    (imgs / "b.txt").symlink_to(tmp_path / "secret")
    result = api.check(
        imgs, api.CheckOptions(only=("caption-unreadable", "caption-missing", "unknown"))
    )
    assert {(f.check, f.path.name) for f in result.findings} == {("caption-unreadable", "b.png")}


@pytest.mark.parametrize("name", ["b.caption", "b.TXT", "b.png.txt"])
def test_misnamed_captions_are_read_and_reported(name, imgs):
    (imgs / "b.txt").rename(imgs / name)
    assert reason(imgs, "caption-name") == f"its caption file is `{name}`, not `b.txt`"
    assert findings(imgs, "caption-missing", "caption-stray", "trigger-missing") == ()


def test_a_second_caption_file_is_reported(imgs):
    (imgs / "b.caption").write_text("another\n", encoding="utf-8")
    assert reason(imgs, "caption-name") == "has b.caption as well as its .txt"


def test_the_side_car_of_another_image_is_its_own(imgs):
    """`b.png.txt` is the caption of an image `b.png.jpg`, where there is one."""
    caption(write_image(imgs / "b.png.jpg", 41), "sks, 1girl")
    assert findings(imgs, "caption-name", "caption-missing") == ()


def test_words_that_the_trigger_should_absorb_are_named_in_sentences_only(imgs):
    excluding("sks, lips, long hair")(imgs)
    assert findings(imgs, "mentions-excluded") == ()
    (imgs / "dsk.toml").write_text(
        '[dataset]\ncaptions = "mixed"\n[tag]\nexclude = ["lips", "*_hair"]\n', encoding="utf-8"
    )
    (imgs / "b.txt").write_text("sks, lips\nHer Lips are full, her red-brown hair is wet.\n")
    assert reason(imgs, "mentions-excluded") == "mentions `lips`, `red-brown hair`"


# ---- triggers
# --------------------------------------------------------------------------------------------------


def test_a_given_trigger_overrides_the_guess(imgs):
    assert names(imgs, "trigger-missing", trigger=("other",)) == {
        "a.png",
        "b.png",
        "c.png",
        "d.png",
    }
    (imgs / "dsk.toml").write_text('[tag]\ntrigger = ["third"]\n', encoding="utf-8")
    assert "is missing `third`" in {f.reason for f in findings(imgs, "trigger-missing")}


def test_the_class_needs_no_trigger_and_no_caption(tmp_path):
    root = laid_out(tmp_path / "set")
    caption(root / "reg" / "1_girl" / "11.png", "1girl, indoors, outdoors")
    assert api.check(root, api.CheckOptions(skip=PIXELS)).findings == ()


# What needs pixels; it takes its time, and captions do not hang on it.
PIXELS = (
    "unreadable", "suffix", "format", "blurred", "duplicate", "near-duplicate", "text", "alpha",
    "turned", "animated", "faces",
)  # fmt: skip


@pytest.mark.parametrize(
    ("triggers", "tags", "ordered"),
    [
        (("sks",), ("a", "sks", "b"), ("sks", "a", "b")),
        (("sks",), ("a", "SKS", "sks", "b"), ("sks", "a", "b")),
        (("x", "y"), ("a", "y", "b", "x"), ("x", "y", "a", "b")),
        (("x", "y"), ("a", "y"), ("y", "a")),  # what is missing is not put in
        ((), ("a", "a"), ("a", "a")),
    ],
)
def test_triggers_move_to_the_front_once(triggers, tags, ordered, tmp_path):
    assert with_triggers_first(CheckFolder("x", tmp_path, triggers=triggers), tags) == ordered


# ---- what the tags say
# ----------------------------------------------------------------------------------------------


def test_the_nearest_tag_is_named(imgs):
    says("b", "sks, 1girl, long hiar")(imgs)
    assert reason(imgs, "unknown") == "`long hiar` is not a tag; nearest: `long hair`"


def test_sentences_are_not_misspelt_tags(imgs):
    says("b", "sks, 1girl, a girl who looks out of the window")(imgs)
    assert findings(imgs, "unknown") == ()


def test_the_limit_of_tokens_is_the_trainers(imgs):
    says("b", LONG)(imgs)
    assert reason(imgs, "tokens").endswith("are cut off; max_token_length = 150 is enough")
    (imgs / "dsk.toml").write_text("[train]\nmax_token_length = 150\n", encoding="utf-8")
    assert findings(imgs, "tokens") == ()


def test_one_word_and_one_token_are_singular(imgs):
    for name, word in (("a", "mr sks"), ("c", "mrs sks"), ("d", "ms sks")):
        says(name, f"sks, {word}, 1girl")(imgs)
    assert reason(imgs, "trigger-number") == (
        "begins with 1 word that is not a tag, most captions with 2"
    )
    says("b", ", ".join(["sks", *["hat"] * 36, "hat hat"]))(imgs)
    assert reason(imgs, "tokens").startswith("76 tokens: 1 is cut off;")


def test_tags_in_all_captions_name_the_folder_and_the_tag(imgs):
    says("c", "sks, 1girl, hat")(imgs)
    (found,) = findings(imgs, "in-all")
    assert (found.path, found.subject) == (imgs, "1girl")
    assert found.reason == "`1girl` is in all 4 captions: it becomes part of the trigger"


def test_three_captions_are_too_few_for_in_all_and_singleton(imgs):
    for name in ("c.png", "c.txt", "d.png", "d.txt"):
        (imgs / name).unlink()
    write_image(imgs / "e.png", 40)
    caption(imgs / "e.png", "sks, 1girl, tree")
    assert findings(imgs, "in-all", "singleton") == ()


def test_the_tags_of_the_table_of_contradictions_are_tags():
    vocabulary = load()
    every = {
        tag for one in load_contradictions() for tag in (*one.tags, *one.unless, *one.only_with)
    }
    # Written by people and by other taggers, though not in this vocabulary.
    assert {tag for tag in every if tag not in vocabulary} <= {
        "rainbow hair",
        "white eyes",
        "colored tips",
    }
    assert len(every) > 80


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("solo, 2girls", [("solo", "2girls")]),
        ("1girl, solo, blonde hair, black hair", [("black hair", "blonde hair")]),
        ("2girls, blonde hair, black hair", []),  # two people may well
        ("1girl, solo, blonde hair, black hair, multicolored hair", []),
        ("1girl, solo, blue eyes, red eyes, heterochromia", []),
        ("open mouth, closed mouth", [("open mouth", "closed mouth")]),
        ("open mouth, closed mouth, multiple girls", []),
        ("indoors, outdoors, day, night", [("indoors", "outdoors"), ("day", "night")]),
        ("upper body, cowboy shot", []),  # taggers give both at the edge between them
        ("", []),
    ],
)
def test_only_exclusive_tags_contradict(text, pairs):
    assert list(contradictions(frozenset(text.split(", ")), load_contradictions())) == pairs


SENTENCE = "A girl in a red scarf smiles, and the wall is blue."


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("sks, 1girl, solo, smile", "tags"),
        ("1girl, solo.", "tags"),
        ("1girl, holding a very large red umbrella, solo, hat", "tags"),
        (SENTENCE, "sentence"),
        (f"sks, {SENTENCE}", "sentence"),
        ("a woman in a red coat stands at a window, looking out", "sentence"),
        (f"sks, 1girl, solo\n{SENTENCE}", "mixed"),
        (f"{SENTENCE}\nsks, 1girl, solo", "mixed"),
        (f"{SENTENCE}\n{SENTENCE}", "sentence"),
        ("", "tags"),
    ],
)
def test_the_kind_that_a_text_seems_to_have(text, kind):
    assert likely_kind(text) == kind


@pytest.mark.parametrize(
    ("declared", "text", "suggested"),
    [
        ("tags", f"sks, {SENTENCE}", "sentence"),
        ("tags", f"sks, 1girl\n{SENTENCE}", "mixed"),
        ("sentence", "sks, 1girl, solo", "tags"),
        ("sentence", f"sks, {SENTENCE}", ""),
        ("mixed", f"{SENTENCE}", ""),
        ("mixed", "sks, 1girl", ""),
    ],
)
def test_another_kind_is_suggested_and_never_taken(tmp_path, declared, text, suggested):
    (tmp_path / "dsk.toml").write_text(f'[dataset]\ncaptions = "{declared}"\n')
    folder = sound(tmp_path / "set")
    for path in folder.glob("*.png"):
        caption(path, text)
    before = {path: path.read_text() for path in folder.glob("*.txt")}
    result = findings(folder, "caption-kind")
    assert [f'captions = "{suggested}"' in finding.step for finding in result] == (
        [True] if suggested else []
    )
    assert {path: path.read_text() for path in folder.glob("*.txt")} == before
