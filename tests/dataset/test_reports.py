"""The tag report: counts, flags, pairs, CSV and the chart."""

import csv
import io
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasetkit import figure_style
from datasetkit.captions import spelling
from datasetkit.captions.vocabulary import Vocabulary
from datasetkit.core.errors import InputError
from datasetkit.dataset import charts, reports
from datasetkit.dataset.reports import CaptionedImage

VOCABULARY = Vocabulary(
    ("1girl", "2girls", "long hair", "solo", "smile", "=_=", "hatsune miku", "cat ear", "cat ears"),
    ("general",) * 6 + ("character",) + ("general",) * 2,
)


def captioned(
    *captions: str, concept: str = "10_sks girl", repeats: int = 10, **known: dict
) -> list[CaptionedImage]:
    return [
        CaptionedImage(
            concept,
            repeats,
            Path(f"{concept}/{i}.png"),
            tuple(text.split(", ")),
            known.get(f"scores{i}"),
        )
        for i, text in enumerate(captions)
    ]


def row(frame: pd.DataFrame, tag: str, concept: str = reports.TOTAL) -> pd.Series:
    found = frame[(frame["tag"] == tag) & (frame["concept"] == concept)]
    assert len(found) == 1
    return found.iloc[0]


def flags(frame: pd.DataFrame, tag: str) -> list[str]:
    return str(row(frame, tag)["flags"]).split("; ")


def test_each_concept_and_the_total_count_images_percent_and_samples():
    items = captioned("sks, 1girl, smile", "sks, 1girl", repeats=10)
    items += captioned("mytag, 1girl", "mytag, solo", concept="6_maid", repeats=6)
    frame = reports.frequency(items, ["sks", "mytag"], VOCABULARY)
    assert list(dict.fromkeys(frame["concept"])) == ["10_sks girl", "6_maid", "(total)"]
    girl = row(frame, "1girl")
    assert (girl["images"], girl["of_images"], girl["percent"], girl["weighted"]) == (
        3,
        4,
        75.0,
        26,
    )
    assert row(frame, "1girl", "6_maid")["percent"] == 50.0
    assert row(frame, "smile", "10_sks girl")["weighted"] == 10


def test_conditional_share_is_counted_over_the_images_of_its_trigger():
    items = captioned("sks, 1girl, smile", "sks, 1girl", "1girl, solo")
    frame = reports.frequency(items, ["sks", "absent"], VOCABULARY)
    assert row(frame, "smile")["P(tag | sks)"] == 0.5
    assert row(frame, "1girl")["P(tag | sks)"] == 1.0
    assert row(frame, "solo")["P(tag | sks)"] == 0.0
    assert frame["P(tag | absent)"].isna().all()


def test_mean_score_covers_the_images_that_have_one_and_is_blank_elsewhere():
    items = captioned(
        "sks, long hair", "sks, long hair", "sks, long hair, solo", scores0={"long_hair": 0.5}
    )
    items[1] = CaptionedImage(
        "10_sks girl", 10, Path("b.png"), ("sks", "long hair"), {"long hair": 0.8, "smile": 0.9}
    )
    frame = reports.frequency(items, ["sks"], VOCABULARY)
    assert row(frame, "long hair")["mean_score"] == 0.65
    assert np.isnan(row(frame, "solo")["mean_score"])
    assert "smile" not in set(frame["tag"])
    assert "(total),solo,general,1,3,33.33,10,,0.3333,singleton\r\n" in reports.csv_text(frame)


def test_categories_come_from_the_vocabulary_and_the_triggers():
    frame = reports.frequency(captioned("SKS, 1girl, hatsune miku, blorb"), ["sks"], VOCABULARY)
    categories = {tag: row(frame, tag)["category"] for tag in frame["tag"]}
    assert categories == {
        "SKS": "trigger",
        "1girl": "general",
        "hatsune miku": "character",
        "blorb": "",
    }


def test_a_tag_in_all_images_is_flagged_except_the_trigger():
    frame = reports.frequency(captioned("sks, 1girl, solo", "sks, 1girl"), ["sks"], VOCABULARY)
    assert flags(frame, "1girl") == ["in all images"]
    assert flags(frame, "sks") == [""]
    assert flags(frame, "solo") == ["singleton"]


def test_a_single_image_has_no_frequency_flags():
    frame = reports.frequency(captioned("sks, 1girl"), ["sks"], VOCABULARY)
    assert flags(frame, "1girl") == [""]


def test_unknown_tags_are_flagged_but_triggers_are_not():
    frame = reports.frequency(captioned("sks, blorb", "sks"), ["sks"], VOCABULARY)
    assert flags(frame, "blorb") == ["singleton", "not in vocabulary"]


def test_the_less_trusted_of_two_near_spellings_is_flagged():
    items = captioned(
        "MikamiYua, long hair",
        "MikamiYu, long_hair",
        "MikamiYua, long hiar",
        "MikamiYua, blorbs, blorb",
    )
    frame = reports.frequency(items, ["MikamiYua"], VOCABULARY)
    assert "near MikamiYua" in flags(frame, "MikamiYu")
    assert "near long hair" in flags(frame, "long_hair")
    assert "near long hair" in flags(frame, "long hiar")
    assert "near blorbs" in flags(frame, "blorb")
    for tag in ("MikamiYua", "long hair", "blorbs"):
        assert not any(flag.startswith("near") for flag in flags(frame, tag))


def test_two_tags_of_the_vocabulary_are_not_misspellings():
    frame = reports.frequency(
        captioned("1girl, cat ear", "2girls, cat ears", "smile, solo"), [], VOCABULARY
    )
    assert not frame["flags"].str.contains("near").any()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("long hair", "Long_Hair"),
        ("longhair", "long hair"),
        ("cat-ears", "cat ear"),
        ("berry", "berries"),
        ("smile", "simle"),
        ("red dress", "red dres"),
        ("blue skirt", "bleu skrit"),
    ],
)
def test_near_spellings_are_near(left, right):
    assert spelling.near(left, right) and spelling.near(right, left)
    assert list(spelling.near_pairs([left, right], [left])) == [tuple(sorted((left, right)))]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("cat", "hat"),
        ("outfit 1", "outfit 2"),
        ("smile", "smile"),
        (":d", ";d"),
        ("red eyes", "open mouth"),
        ("^_^", "^^"),
    ],
)
def test_other_words_are_not_near(left, right):
    assert not spelling.near(left, right)
    assert list(spelling.near_pairs({left, right}, [left])) == []


def slow_distance(a: str, b: str) -> int:
    """Optimal string alignment by its recursive definition."""
    if not a or not b:
        return len(a) + len(b)
    best = min(
        slow_distance(a[:-1], b) + 1,
        slow_distance(a, b[:-1]) + 1,
        slow_distance(a[:-1], b[:-1]) + (a[-1] != b[-1]),
    )
    if len(a) > 1 and len(b) > 1 and a[-1] == b[-2] and a[-2] == b[-1]:
        best = min(best, slow_distance(a[:-2], b[:-2]) + 1)
    return best


@settings(max_examples=60, deadline=None)
@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_distance_counts_as_its_definition_does(a, b):
    assert spelling.distance(a, b) == slow_distance(a, b)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abs_ 1-", min_size=1, max_size=11), max_size=7, unique=True))
def test_the_index_finds_the_same_pairs_as_trying_every_pair(tags):
    every = {(a, b) for a in tags for b in tags if a < b and spelling.near(a, b)}
    assert set(spelling.near_pairs(tags, tags)) == every


@pytest.mark.long
def test_near_spellings_of_thousands_of_tags_are_found_in_time():
    rng = random.Random(1)
    tags = ["".join(rng.choices("abcdefghij ", k=rng.randint(5, 20))) for _ in range(2000)]
    started = time.process_time()
    pairs = list(spelling.near_pairs({*tags, "wxyz wxyz", "wxyz wyxz"}, [*tags[:500], "wxyz wyxz"]))
    assert ("wxyz wxyz", "wxyz wyxz") in pairs
    assert time.process_time() - started < 20


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_order_of_the_images_does_not_matter(data):
    words = st.sampled_from(["sks", "1girl", "long hair", "long_hair", "blorb", "solo", "="])
    tags = st.lists(words, min_size=1, max_size=5, unique=True).map(tuple)
    scores = st.one_of(st.none(), st.dictionaries(words, st.floats(0, 1), max_size=4))
    build = st.builds(
        CaptionedImage,
        st.sampled_from(["10_a", "6_b"]),
        st.just(3),
        st.just(Path("x")),
        tags,
        scores,
    )
    items = data.draw(st.lists(build, min_size=1, max_size=6))
    other = data.draw(st.permutations(items))
    assert reports.csv_text(reports.frequency(items, ["sks"], VOCABULARY)) == reports.csv_text(
        reports.frequency(other, ["sks"], VOCABULARY)
    )
    assert reports.csv_text(reports.cooccurrence(items)) == reports.csv_text(
        reports.cooccurrence(other)
    )


def test_pairs_that_occur_together_once_are_left_out():
    items = captioned("a, b, c", "b, a", "a, c", "a")
    frame = reports.cooccurrence(items)
    total = frame[frame["concept"] == reports.TOTAL]
    assert list(zip(total["tag_a"], total["tag_b"], total["images"], strict=True)) == [
        ("a", "b", 2),
        ("a", "c", 2),
    ]
    assert list(total["jaccard"]) == [0.5, 0.5]
    assert list(total["lift"]) == [1.0, 1.0]


def test_lift_is_above_one_for_tags_that_occur_together():
    frame = reports.cooccurrence(captioned("a, b", "a, b", "c", "d"))
    assert list(frame["lift"]) == [2.0, 2.0] and list(frame["jaccard"]) == [1.0, 1.0]


def test_no_images_give_tables_with_headings_only():
    assert reports.csv_text(reports.frequency([], ["sks"], VOCABULARY)).startswith(
        "concept,tag,category"
    )
    assert (
        reports.csv_text(reports.cooccurrence([])) == "concept,tag_a,tag_b,images,jaccard,lift\r\n"
    )


def test_csv_is_rfc_4180():
    frame = pd.DataFrame({"tag": ['a "b"', "c, d", "e\r\nf", "=_="], "n": [1, 2, 3, 4]})
    text = reports.csv_text(frame)
    assert text == 'tag,n\r\n"a ""b""",1\r\n"c, d",2\r\n"e\r\nf",3\r\n=_=,4\r\n'
    assert [r[0] for r in csv.reader(io.StringIO(text, newline=""))][1:] == list(frame["tag"])


@pytest.mark.parametrize("tag", ["=_=", "+_+", "@_@", "-3", "\tx", "\rx", "＝1"])
def test_excel_csv_disarms_cells_that_look_like_formulas(tag):
    frame = reports.frequency(captioned(f"{tag}, smile", "sks"), [], VOCABULARY)
    text = reports.csv_text(frame, excel=True)
    assert text.startswith("\ufeffconcept")
    cells = [r[1] for r in csv.reader(io.StringIO(text, newline=""))][1:]
    assert "'" + tag in cells and tag not in cells and "smile" in cells


def test_excel_csv_leaves_numbers_alone():
    text = reports.csv_text(pd.DataFrame({"n": [-1.5, float("nan")], "=x": ["a", "b"]}), excel=True)
    assert text == "\ufeffn,'=x\r\n-1.5,a\r\n,b\r\n"


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_chart_is_written_with_a_highlighted_trigger(tmp_path):
    items = captioned("sks, 1girl, solo", "sks, 1girl")
    frame = reports.frequency(items, ["sks"], VOCABULARY)
    png = reports.plot(frame, tmp_path / "tags.png")
    assert (tmp_path / "tags.png").read_bytes() == png == reports.plot(frame)

    def count(drawn: bytes, colour: str) -> int:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        return int((pixels(drawn) == rgb).all(axis=2).sum())

    assert count(png, figure_style.ORANGE) > 2000
    assert count(png, figure_style.DARK) > 2000  # 1girl, in all images
    assert count(png, figure_style.BLUE) > 1000  # solo
    plain = reports.plot(reports.frequency(items, [], VOCABULARY))
    assert count(plain, figure_style.ORANGE) == 0


def test_chart_draws_any_tag_without_a_warning():
    odd = "初音ミク, $x$ $y$, ^_^, \\m/, a\u202eb, 😀, \U000f0000, " + "W" * 60
    frame = reports.frequency(captioned(odd, "$, $$, _, sks"), ["sks"], VOCABULARY)
    assert pixels(reports.plot(frame)).std() > 10


def test_chart_shows_at_most_thirty_tags_a_concept_and_every_concept():
    few = reports.frequency(captioned(", ".join(f"tag {i:03}" for i in range(30))), [], VOCABULARY)
    many = reports.frequency(captioned(", ".join(f"tag {i:03}" for i in range(90))), [], VOCABULARY)
    assert pixels(reports.plot(few)).shape == pixels(reports.plot(many)).shape
    two = captioned("a, b") + captioned("a", concept="6_maid")
    panels = charts._panels(reports.frequency(two, [], VOCABULARY))
    assert [name for name, _ in panels] == ["(total)", "10_sks girl", "6_maid"]
    crowd = [item for i in range(40) for item in captioned("a", concept=f"1_c{i:02}")]
    assert len(charts._panels(reports.frequency(crowd, [], VOCABULARY))) == charts.MAX_PANELS


def test_a_tag_that_is_missing_in_one_image_is_never_shown_as_100_percent():
    assert [charts._share(p) for p in (100.0, 99.97, 67.5, 8.33, 50.0)] == [
        "100 %",
        "99.9 %",
        "67.5 %",
        "8.3 %",
        "50 %",
    ]


def test_an_empty_chart_is_refused():
    with pytest.raises(InputError, match="no tags"):
        reports.plot(reports.frequency([], [], VOCABULARY))


def test_importing_reports_loads_neither_pandas_nor_matplotlib():
    code = (
        "import sys, datasetkit.dataset.reports; print(sorted({'pandas', 'matplotlib', "
        "'numpy', 'PIL'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
