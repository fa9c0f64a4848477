"""The tables of `dsk report` about captions that are sentences."""

import csv
from pathlib import Path

import pytest

from datasetkit.captions.tokens import TokenLimit
from datasetkit.dataset import sentence_reports
from datasetkit.dataset.reports import CaptionedImage
from tests.cli.conftest import images

TEXTS = (
    "kitsu, a girl with a red scarf stands in the snow. She smiles.",
    "kitsu, a girl with a red scarf, seen from behind.",
    "a dog",
)


def items(*texts, concept="kitsu"):
    return [
        CaptionedImage(concept, 1, Path(f"{n}.png"), (), None, (text,))
        for n, text in enumerate(texts)
    ]


def test_lengths_are_counted_in_words_and_tokens():
    table = sentence_reports.lengths(items(*TEXTS), TokenLimit(5)).to_dict("records")
    (row,) = table
    assert (row["images"], row["words"], row["most_words"]) == (3, 8.3, 13)
    assert row["most_tokens"] > 13 and (row["limit"], row["over"]) == (5, 2)


def test_several_concepts_have_a_row_each_and_one_for_all():
    every = items(*TEXTS) + items("a dog runs", concept="dog")
    rows = sentence_reports.lengths(every, TokenLimit(75)).to_dict("records")
    assert [(row["concept"], row["images"]) for row in rows] == [
        ("dog", 1), ("kitsu", 3), ("(total)", 4),
    ]  # fmt: skip


def test_phrases_count_images_and_do_not_go_over_commas():
    rows = sentence_reports.phrases(items(*TEXTS)).to_dict("records")
    counts = {row["phrase"]: row["images"] for row in rows}
    assert counts["kitsu"] == counts["red scarf"] == 2
    assert "scarf stands" not in counts and "a" not in counts and "kitsu girl" not in counts
    assert rows == sorted(rows, key=lambda r: (r["words"], -r["images"], r["phrase"]))


@pytest.mark.parametrize("kind", ["sentence", "tags"])
def test_the_tables_are_written_where_captions_have_sentences(dsk, here, kind):
    images(here / "imgs", 2)
    for path, text in zip(sorted((here / "imgs").glob("*.png")), TEXTS, strict=False):
        path.with_suffix(".txt").write_text(text, "utf-8")
    (here / "dsk.toml").write_text(f'[dataset]\ncaptions = "{kind}"\n', "utf-8")
    ended = dsk("report", "imgs", "--no-plot")
    assert ended.code == 0, ended.err
    written = {path.name for path in (here / "report").iterdir()}
    assert ({"sentences.csv", "phrases.csv"} <= written) == (kind == "sentence")
    if kind == "sentence":
        with (here / "report" / "sentences.csv").open(encoding="utf-8-sig", newline="") as file:
            (row,) = csv.DictReader(file)
        assert row["images"] == "2" and row["over"] == "0" and row["limit"] == "75"
    assert dsk("report", "imgs", "--no-plot").code == 0
