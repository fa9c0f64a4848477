"""The trigger is known: what is added later stands behind it, checks and tables take no other word
for it, and the captions that lower keep_tokens are named.
"""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import write_image
from tests.web.client import review

BASE = "pretrained_model_name_or_path=tiny"

ALL = {"in": "all"}


def caption(image: Path, text: str) -> None:
    image.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def dataset(folder: Path, *texts: str) -> Path:
    """Images `0.png`, `1.png`, ... with these captions."""
    for n, text in enumerate(texts):
        caption(write_image(folder / f"{n}.png", n, (64, 64)), text)
    return folder


def captions(folder: Path) -> list[str]:
    return [path.read_text("utf-8").strip() for path in sorted(folder.glob("*.txt"))]


TEXTS = ("solo, hat", "solo, smile", "1girl, long hair", "1girl, solo, hat")


@pytest.fixture
def photos(here: Path) -> Path:
    return dataset(here / "photos", *TEXTS)


# ---- what is added stands behind the trigger


def test_rules_add_behind_the_trigger_that_rules_wrote(dsk, photos):
    dsk("rules", "photos", "--trigger", "Sylvie")
    assert dsk("rules", "photos", "--additional", "hand", "--where", "tag:hat").code == 0
    assert captions(photos) == [
        "Sylvie, hand, solo, hat",
        "Sylvie, solo, smile",
        "Sylvie, 1girl, long hair",
        "Sylvie, hand, 1girl, solo, hat",
    ]
    dsk("rules", "photos", "--additional", "hand,foot")
    assert captions(photos)[1] == "Sylvie, hand, foot, solo, smile"
    assert dsk("rules", "photos", "--additional", "hand,foot", "--json").result["changes"] == []


def test_a_caption_without_the_trigger_gets_the_tag_first(dsk, photos):
    dsk("rules", "photos", "--trigger", "Sylvie")
    caption(photos / "1.png", "solo, smile")
    dsk("rules", "photos", "--additional", "hand")
    assert captions(photos)[:2] == ["Sylvie, hand, solo, hat", "hand, solo, smile"]


def test_a_trigger_in_the_middle_stays_there(dsk, photos):
    dsk("rules", "photos", "--trigger", "Sylvie")
    caption(photos / "1.png", "smile, Sylvie, solo")
    dsk("rules", "photos", "--additional", "hand")
    assert captions(photos)[1] == "smile, Sylvie, hand, solo"


@pytest.mark.parametrize(
    "trigger", ["sylvie,the woman", "sylvie woman", "1girl", "hatsune miku", "Sylvie (Ext)"]
)
def test_every_kind_of_trigger_is_stored(trigger, dsk, photos):
    """Two words, a word of two, words of the vocabulary, brackets."""
    dsk("rules", "photos", "--trigger", trigger)
    dsk("rules", "photos", "--additional", "hand")
    words = ", ".join(trigger.split(","))
    assert all(text.startswith(f"{words}, hand, ") for text in captions(photos))


def test_tag_stores_its_trigger_and_adds_behind_it(dsk, photos):
    for text in photos.glob("*.txt"):
        text.unlink()
    dsk("tag", "photos", "--trigger", "sylvie", "--tagger", "basic")
    dsk("tag", "photos", "--additional", "hand", "--tagger", "basic")
    assert all(text.startswith("sylvie, hand, ") for text in captions(photos))
    dsk("rules", "photos", "--additional", "foot")
    assert all(text.startswith("sylvie, foot, hand, ") for text in captions(photos))


@pytest.mark.parametrize("existing", ["append", "prepend", "overwrite"])
def test_tag_keeps_the_trigger_of_captions_of_a_person(existing, dsk, here):
    folder = dataset(here / "photos", *(f"sylvie, mine {n}" for n in range(4)))
    dsk("tag", "photos", "--existing", existing, "--additional", "hand", "--tagger", "basic")
    texts = captions(folder)
    assert all(text.startswith("sylvie, hand, ") for text in texts)
    assert all(("mine" in text) == (existing != "overwrite") for text in texts)
    if existing == "prepend":
        assert texts[0].endswith(", mine 0")


def test_an_inferred_trigger_counts_in_each_folder(dsk, here):
    """Neither folder was seen by dsk before; and one has too few captions to infer a trigger."""
    for name in ("anna", "bella", "few"):
        word = "anna" if name == "few" else name
        count = 2 if name == "few" else 3
        dataset(here / "data" / name, *(f"{word}, solo, pose {n}" for n in range(count)))
    dataset(here / "data" / "many", *(f"anna, hat, pose {n}" for n in range(9)))
    dsk("rules", "data", "-r", "--additional", "hand")
    for name in ("anna", "bella", "few"):
        word = "anna" if name == "few" else name
        assert all(c.startswith(f"{word}, hand, solo") for c in captions(here / "data" / name))


def test_subfolders_keep_their_own_triggers(dsk, here):
    for name in ("a", "b"):
        dataset(here / "data" / name, *TEXTS)
        dsk("rules", f"data/{name}", "--trigger", f"{name} person")
    dsk("rules", "data", "-r", "--additional", "hand")
    for name in ("a", "b"):
        assert all(c.startswith(f"{name} person, hand, ") for c in captions(here / "data" / name))
    assert findings(dsk, "data", "-r", only="trigger-first,trigger-missing,in-all") == []


@pytest.mark.parametrize("how", ["move", "copy", "copy without the project folder"])
def test_a_moved_or_copied_folder_keeps_its_trigger(how, dsk, photos, here):
    dsk("rules", "photos", "--trigger", "sylvie,the woman")
    other = here / "elsewhere" / "pictures"
    if how == "move":
        other.parent.mkdir()
        photos.rename(other)
    else:
        ignore = None if how == "copy" else shutil.ignore_patterns(".dsk")
        shutil.copytree(photos, other, ignore=ignore)
    dsk("rules", other, "--additional", "hand")
    assert all(text.startswith("sylvie, the woman, hand, ") for text in captions(other))


def test_exchanged_folders_do_not_exchange_their_triggers(dsk, here):
    (here / "dsk.toml").write_text("")
    for name in ("a", "b"):
        dataset(here / name, *TEXTS)
        dsk("rules", name, "--trigger", f"{name} person")
    (here / "a").rename(here / "c")
    (here / "b").rename(here / "a")
    (here / "c").rename(here / "b")
    for name in ("a", "b"):
        dsk("rules", name, "--additional", "hand")
    assert all(text.startswith("b person, hand, ") for text in captions(here / "a"))
    assert all(text.startswith("a person, hand, ") for text in captions(here / "b"))


def test_undo_undoes_the_stored_trigger(dsk, photos):
    dsk("rules", "photos", "--trigger", "1girl")
    dsk("rules", "photos", "--trigger", "solo")
    dsk("undo", "photos")
    dsk("rules", "photos", "--additional", "hand")
    assert captions(photos)[0] == "1girl, hand, solo, hat"
    dsk("undo", "photos")
    dsk("undo", "photos")
    assert captions(photos) == list(TEXTS)
    dsk("rules", "photos", "--additional", "hand")
    assert captions(photos)[2] == "hand, 1girl, long hair"


def test_a_trigger_that_all_captions_have_already_is_stored(dsk, here):
    folder = dataset(here / "photos", "1girl, solo", "1girl, hat")
    assert dsk("rules", "photos", "--trigger", "1girl", "--json").result["changes"] == []
    dsk("rules", "photos", "--additional", "hand")
    assert captions(folder) == ["1girl, hand, solo", "1girl, hand, hat"]


def test_a_dry_run_stores_nothing(dsk, photos):
    dsk("rules", "photos", "--trigger", "1girl", "--dry-run")
    dsk("rules", "photos", "--additional", "hand")
    assert captions(photos)[2] == "hand, 1girl, long hair"


def test_a_removed_trigger_is_forgotten(dsk, photos):
    dsk("rules", "photos", "--trigger", "sylvie")
    dsk("rules", "photos", "--exclude", "sylvie")
    assert findings(dsk, "photos", only="trigger-missing") == []
    dsk("rules", "photos", "--additional", "hand")
    assert captions(photos)[0] == "hand, solo, hat"


def test_a_trigger_for_a_few_images_is_not_that_of_the_folder(dsk, photos):
    dsk("rules", "photos", "--trigger", "sylvie")
    dsk("rules", "photos", "--trigger", "red dress", "--where", "name:0*")
    dsk("rules", "photos", "--additional", "hand")
    assert captions(photos)[0] == "red dress, sylvie, hand, solo, hat"
    assert captions(photos)[1] == "sylvie, hand, solo, smile"


def test_import_overwrites_behind_the_trigger(dsk, photos):
    dsk("rules", "photos", "--trigger", "sylvie")
    for n in range(4):
        tags = {"tags": ["blue sky", "sylvie" if n else "cloud"]}
        (photos / f"{n}.png.json").write_text(json.dumps(tags))
    dsk("import", "photos", "--existing", "overwrite")
    assert captions(photos) == ["sylvie, blue sky, cloud"] + ["sylvie, blue sky"] * 3


def test_the_folder_of_a_concept_in_dsk_toml(dsk, photos, here):
    (here / "dsk.toml").write_text('[[concept]]\nfolder = "photos"\ntrigger = ["1girl"]\n')
    dsk("rules", "photos", "--additional", "hand")
    assert captions(photos)[2:] == ["1girl, hand, long hair", "1girl, hand, solo, hat"]


def test_a_laid_out_folder_has_the_trigger_of_its_source(dsk, photos, here):
    dsk("rules", "photos", "--trigger", "1girl")
    dsk("layout", "anna=photos", "--repeats", "3")
    folder = here / "dataset" / "train" / "3_anna"
    dsk("rules", folder, "--additional", "hand")
    assert all(text.startswith("1girl, hand, ") for text in captions(folder))
    folder.rename(folder.with_name("5_anna"))
    dsk("rules", folder.with_name("5_anna"), "--additional", "foot")
    assert all(text.startswith("1girl, foot, ") for text in captions(folder.with_name("5_anna")))


def test_outputs_have_the_trigger_of_their_source_until_they_get_their_own(dsk, photos, here):
    dsk("rules", "photos", "--trigger", "1girl")
    assert dsk("resize", "photos", "small", "--max", "32").code == 0
    dsk("rules", "small", "--additional", "hand")
    assert all(text.startswith("1girl, hand, ") for text in captions(here / "small"))
    dsk("rules", "small", "--trigger", "solo")
    dsk("resize", "photos", "small", "--max", "16")
    dsk("rules", "small", "--additional", "foot")
    assert all(text.startswith("solo, foot, ") for text in captions(here / "small"))


def test_the_class_of_a_regularisation_set_is_not_a_trigger(dsk, here):
    folder = dataset(here / "dataset" / "reg" / "1_1girl", *["1girl, solo"] * 4)
    dsk("rules", folder, "--additional", "hand")
    assert captions(folder) == ["hand, 1girl, solo"] * 4


# ---- check


def findings(dsk, *arguments: object, only: str) -> list[tuple[str, str]]:
    result = dsk("check", *arguments, "--only", only, "--json").result
    return [(Path(f["path"]).name, f["reason"]) for f in result["findings"]]


def test_check_finds_the_trigger_behind_and_fixes_it(dsk, photos):
    dsk("rules", "photos", "--trigger", "Sylvie")
    for n, text in enumerate(TEXTS):
        caption(photos / f"{n}.png", f"hand, Sylvie, {text}")  # by another program
    assert len(findings(dsk, "photos", only="trigger-first")) == 4
    assert all("sylvie" not in reason for _, reason in findings(dsk, "photos", only="in-all"))
    dsk("check", "photos", "--fix")
    assert captions(photos)[0] == "Sylvie, hand, solo, hat"


def test_check_does_not_advise_to_exclude_a_word_of_no_vocabulary(dsk, here):
    """Nothing is known of this folder: no history, and a tag stands before the word."""
    texts = [f"1girl, sylvie, {tag}" for tag in ("hat", "smile", "long hair", "solo")]
    folder = dataset(here / "photos", *texts)
    shown = dsk("check", "photos", "--only", "in-all,trigger-first")
    assert "`1girl` is in all 4 captions" in shown.out.replace("\n", " ")
    assert "--trigger sylvie, if it is the trigger" in " ".join(shown.out.split())
    assert [r for _, r in findings(dsk, "photos", only="in-all") if "sylvie" in r] == []
    assert dsk("check", "photos", "--fix").code == 0
    assert captions(folder) == texts  # whether it is the trigger is not sure


SENTENCES = tuple(
    f"A photo of ohwx woman at place {n}. She has a red, long dress." for n in range(4)
)


def test_a_stored_trigger_inside_sentences_counts(dsk, here):
    photos = dataset(here / "photos", *SENTENCES)
    dsk("rules", "photos", "--trigger", "ohwx woman")
    assert dsk("rules", "photos", "--additional", "hand").code == 0
    assert captions(photos) == [f"hand, {text}" for text in SENTENCES]
    assert "taken as the trigger" not in dsk("check", "photos").err


@pytest.mark.parametrize(
    "texts",
    [
        SENTENCES,
        [f"{text}, She smiles." for text in SENTENCES],
        [f"Street {n}, a red house behind it, an old wall." for n in range(4)],
        [f"In picture {n}, she has a red coat, brown shoes." for n in range(4)],
    ],
)
def test_a_part_of_a_sentence_is_not_a_trigger(texts, dsk, here):
    photos = dataset(here / "photos", *texts)
    result = dsk("check", "photos", "--fix", "--only", "trigger-first,trigger-missing")
    assert "taken as the trigger" not in result.out + result.err
    assert "it may be the trigger" not in result.out
    assert captions(photos) == list(texts)


def test_a_trigger_before_sentences_is_inferred(dsk, here):
    photos = dataset(here / "photos", *(f"ohwx, {text}" for text in SENTENCES))
    dsk("rules", "photos", "--additional", "hand")
    assert captions(photos) == [f"ohwx, hand, {text}" for text in SENTENCES]


def test_check_leaves_a_trigger_between_the_commas_of_a_sentence(dsk, here):
    text = "A woman, ohwx, is at the window, and ohwx, again, smiles."
    photos = dataset(here / "photos", *[text] * 3)
    checks = "trigger-first,trigger-twice,trigger-missing"
    result = dsk("check", "photos", "--fix", "--trigger", "ohwx", "--only", checks, "--json")
    assert result.result["findings"] == []
    assert captions(photos) == [text] * 3


def test_check_takes_the_damaged_half_of_a_folder_for_damaged(dsk, here):
    folder = dataset(
        here / "photos",
        *(f"{'hand, ' if n % 2 else ''}ZhangNaYing, pose {n}" for n in range(6)),
    )
    assert len(findings(dsk, "photos", only="trigger-first")) == 3
    dsk("check", "photos", "--fix")
    assert all(text.startswith("ZhangNaYing, ") for text in captions(folder))


# ---- report


def categories(here: Path, folder: str) -> dict[str, str]:
    rows = (here / folder / "report" / "tags.csv").read_text("utf-8").splitlines()
    return {row.split(",")[1]: row.split(",")[2] for row in rows}


def test_report_marks_the_stored_trigger(dsk, photos, here):
    dsk("rules", "photos", "--trigger", "solo,sylvie")
    dsk("report", "photos")
    tags = categories(here, "photos")
    assert (tags["solo"], tags["sylvie"], tags["hat"]) == ("trigger", "trigger", "general")
    header = (photos / "report" / "tags.csv").read_text("utf-8").splitlines()[0]
    assert "P(tag | sylvie)" in header


# ---- keep_tokens


def with_one_caption(here: Path, text: str, count: int = 10) -> Path:
    texts = [f"sylvie, 1girl, pose {n}" for n in range(count - 1)]
    return dataset(here / "sylvie", *texts, text)


LOWERED = "1 of 10 captions does not begin with sylvie (9.png): keep_tokens would be 1 without it"


def said(ended) -> str:
    return " ".join((ended.out + ended.err).split())


def test_export_names_the_caption_that_lowers_keep_tokens(dsk, here):
    folder = with_one_caption(here, "a girl, sylvie, sitting")
    ended = dsk("export", "sylvie")
    assert LOWERED in said(ended) and "keep_tokens = 0" in ended.out and ended.code == 0
    ended = dsk("export", "sylvie", "--json")
    assert ended.json["warnings"] == [LOWERED]
    assert [Path(p).name for p in ended.result["keep_tokens_lowered_by"]] == ["9.png"]
    caption(folder / "9.png", "sylvie, a girl")
    assert "does not begin" not in said(dsk("export", "sylvie"))


def test_layout_and_the_plan_of_a_run_name_it_too(dsk, here):
    with_one_caption(here, "a girl, sylvie, sitting")
    ended = dsk("layout", "sylvie=sylvie", "--repeats", "2", "--json")
    assert ended.json["warnings"] == [LOWERED] and ended.result["keep_tokens"] == 0
    assert LOWERED in said(dsk("train", "dataset", "--dry-run", "--set", BASE))
    plan = dsk("train", "dataset", "--dry-run", "--set", BASE, "--json").result["plan"]
    assert [Path(p).name for p in plan["keep_tokens_lowered_by"]] == ["9.png"]
    set_to_1 = dsk("train", "dataset", "--dry-run", "--set", BASE, "--set", "keep_tokens=1")
    assert "(9.png): keep_tokens = 1 keeps another tag there" in said(set_to_1)
    unshuffled = dsk(
        "train", "dataset", "--dry-run", "--set", BASE, "--set", "shuffle_caption=false"
    )
    assert "does not begin" not in said(unshuffled)


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        (
            ["a, hat", "b, hat", "c, hat", "d, hat"],
            "4 of 10 captions do not begin with sylvie (6.png, 7.png, 8.png, ...): keep_tokens "
            "would be 1 without them",
        ),
        (["sylvie, 1girl, x"], ""),
        (["Sylvie, hat"], ""),
    ],
)
def test_the_line_counts_captions(texts, line, dsk, here):
    good = [f"sylvie, 1girl, pose {n}" for n in range(10 - len(texts))]
    dataset(here / "sylvie", *good, *texts)
    assert dsk("export", "sylvie", "--json").json["warnings"] == ([line] if line else [])


def test_two_triggers_and_two_concepts(dsk, here):
    train = here / "dataset" / "train"
    dataset(train / "2_anna", *(f"anna, red hat, pose {n}" for n in range(4)), "anna, pose 4")
    dataset(train / "2_bella", *(f"bella, blue hat, pose {n}" for n in range(4)))
    for folder, words in (("2_anna", "anna,the hat"), ("2_bella", "bella,the coat")):
        dsk("rules", train / folder, "--trigger", words)
    ended = dsk("export", "dataset", "--json")
    assert ended.result["keep_tokens"] == 2 and ended.json["warnings"] == []
    caption(train / "2_anna" / "4.png", "anna, pose 4, the hat")
    ended = dsk("export", "dataset", "--json")
    assert ended.result["keep_tokens"] == 1
    assert ended.json["warnings"] == [
        "1 of 5 captions does not begin with anna, the hat (4.png): keep_tokens would be 2 "
        "without it"
    ]


@pytest.mark.long
def test_a_run_and_then_one_edited_caption(dsk, here):
    photos = here / "photos"
    for n in range(5):
        write_image(photos / f"{n}.png", n, (96, 64))
    assert dsk("init", "--images", "photos", "--trigger", "sylvie").code == 0
    toml = (here / "dsk.toml").read_text("utf-8").replace('tagger = "auto"', 'tagger = "basic"')
    (here / "dsk.toml").write_text(toml, "utf-8")
    assert dsk("run").code in (0, 3)
    edited = next((here / "work").rglob("4.txt"))
    edited.write_text("a girl, sylvie, sitting\n", encoding="utf-8")
    name = f"4{next(edited.parent.glob('4.[!t]*')).suffix}"
    expected = f"1 of 5 captions does not begin with sylvie ({name}): keep_tokens would be 1"
    assert said(dsk("run")).count(expected) == 1  # layout and export say the same
    data = tomllib.loads((here / "dataset" / "dataset.toml").read_text("utf-8"))
    assert data["general"]["keep_tokens"] == 0
    assert [n for n, _ in findings(dsk, ".", only="trigger-first")] == [name]


def test_keep_tokens_is_not_counted_where_the_caption_has_its_own_separator(dsk, here):
    train = here / "dataset" / "train" / "2_sylvie"
    dataset(train, *(f"sylvie, 1girl, pose {n}" for n in range(5)), "blue hat, sylvie ||| sitting")
    assert dsk("export", "dataset", "--json").result["keep_tokens"] == 0
    (here / "dsk.toml").write_text('[train]\nkeep_tokens_separator = "|||"\nkeep_tokens = 1\n')
    ended = dsk("export", "dataset", "--json")
    assert ended.result["keep_tokens"] == 1 and ended.json["warnings"] == []
    assert "does not begin" not in said(dsk("train", "dataset", "--dry-run"))
    caption(train / "0.png", "1girl, sylvie")  # one without the separator counts as before
    assert dsk("export", "dataset", "--json").result["keep_tokens_lowered_by"] != []
    assert "(0.png): keep_tokens = 1 keeps another tag" in said(
        dsk("train", "dataset", "--dry-run")
    )


# ---- the review page


def test_the_page_adds_behind_a_stored_trigger(dsk, photos):
    dsk("rules", "photos", "--trigger", "Sylvie")
    with review(photos) as page:
        assert page.session["trigger"] == ["Sylvie"]
        page.do(ALL, add=["hand"])
        assert all(text.startswith("Sylvie, hand, ") for text in captions(photos))
        tags = page.post("tags", scope=ALL)
        assert tags["category"][tags["tag"].index("Sylvie")] == "trigger"


def test_the_page_stores_undoes_and_redoes_the_trigger(dsk, photos):
    with review(photos) as page:
        done = page.do(ALL, trigger=["1girl"])
        assert done["trigger"] == ["1girl"] and page.get("session")["trigger"] == ["1girl"]
        assert page.post("undo", version=page.version)["trigger"] == []
        page.version = page.get("session")["version"]
        assert page.post("redo", version=page.version)["trigger"] == ["1girl"]
    dsk("rules", "photos", "--additional", "hand")
    assert all(text.startswith("1girl, hand, ") for text in captions(photos))


def test_the_page_shows_the_trigger_of_an_image_and_does_not_call_it_added(dsk, photos):
    dsk("tag", "photos", "--trigger", "sylvie", "--existing", "overwrite", "--tagger", "basic")
    with review(photos) as page:
        image = page.get("image/1")
        assert image["trigger"] == ["sylvie"]
        assert image["tagger"]["added"] == [] and image["tagger"]["removed"] == []
        page.do(ALL, threshold=0.2, existing="overwrite")
        assert all(text.startswith("sylvie, ") for text in captions(photos))


def test_a_foreign_store_cannot_name_what_is_not_a_tag(dsk, photos):
    """The folder came from somebody else: its trigger is printed and written."""
    dsk("rules", "photos", "--trigger", "sylvie")
    database = sqlite3.connect(photos / ".dsk" / "store.sqlite")
    database.execute("UPDATE trigger_words SET words = ?", (json.dumps(["\x1b[31mred, x"]),))
    database.commit()
    database.close()
    ended = dsk("check", "photos")
    assert "\x1b[31m" not in ended.out + ended.err
    dsk("rules", "photos", "--additional", "hand")
    assert captions(photos)[0] == "sylvie, hand, solo, hat"  # inferred


def test_a_folder_that_cannot_be_written_is_still_checked(dsk, here):
    folder = dataset(here / "photos", *(f"sylvie, pose {n}" for n in range(4)))
    folder.chmod(0o555)
    try:
        assert findings(dsk, "photos", only="trigger-first,trigger-missing") == []
    finally:
        folder.chmod(0o755)


# ---- dsk init


def concept_in(here: Path) -> Any:
    return tomllib.loads((here / "dsk.toml").read_text("utf-8"))["concept"][0]


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["pictures", "Photos", "imgs2", "my_images", "raw-photos", "10_images", "图片", "2024"]
)
def test_init_does_not_make_a_folder_word_the_trigger(name, dsk, here):
    ended = dsk("init", "--images", name)
    assert "trigger" not in concept_in(here) and '# trigger = ["NAME"]' in ended.out
    assert '# trigger = ["NAME"]' in (here / "dsk.toml").read_text("utf-8")
    for n in range(2):
        write_image(here / name / f"{n}.png", n, (64, 64))
    toml = (here / "dsk.toml").read_text("utf-8").replace('tagger = "auto"', 'tagger = "basic"')
    (here / "dsk.toml").write_text(toml, "utf-8")
    ended = dsk("run")
    assert ended.code == 0 and 'write a line `trigger = ["NAME"]` under [[concept]]' in said(ended)
    toml = toml.replace('# trigger = ["NAME"]', 'trigger = ["sylvie"]')
    (here / "dsk.toml").write_text(toml, "utf-8")
    ended = dsk("run")
    assert ended.code == 0 and "has no trigger" not in said(ended)
    assert all(text.startswith("sylvie, ") for text in captions(next((here / "work").iterdir())))


@pytest.mark.parametrize(
    ("images", "trigger"),
    [("photos/MikamiYua", "MikamiYua"), ("10_sks girl", "sks girl"), ("张娜英", "张娜英")],
)
def test_init_takes_a_name_that_means_something(images, trigger, dsk, here):
    assert f"its trigger is {trigger}" in dsk("init", "--images", images).out
    assert concept_in(here)["trigger"] == [trigger]


def test_init_takes_several_triggers(dsk, here):
    dsk("init", "--trigger", "sylvie, the woman")
    assert concept_in(here)["trigger"] == ["sylvie", "the woman"]
    assert concept_in(here)["name"] == "sylvie"


def test_init_does_not_take_a_tag_of_the_vocabulary_for_a_name(dsk, here):
    dsk("init", "--images", "hatsune miku")
    assert "trigger" not in concept_in(here)


@pytest.mark.parametrize(("typed", "trigger"), [("Sylvie\n", ["Sylvie"]), ("\n", None)])
def test_init_asks_on_a_terminal(typed, trigger, dsk, here, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(typed))
    ended = dsk("init", "--images", "pictures")
    assert "a word without a meaning" in ended.err
    assert concept_in(here).get("trigger") == trigger
