"""The label file: the real one is read completely, and a malformed one is refused by name and
line.
"""

from __future__ import annotations

import pytest

from datasetkit.core.errors import ModelFileError
from taggers.base import CHARACTER, GENERAL, RATING
from taggers.labels import parse_labels, read_labels
from tests.taggers.tiny_models import SMALL_LABELS, V3_COUNT, V3_LABELS

HEADER = "tag_id,name,category,count\n"


def test_real_label_file_has_the_counts_of_its_model():
    labels = read_labels(V3_LABELS)
    assert len(labels) == V3_COUNT
    assert [len(labels.rows(c)) for c in (RATING, GENERAL, CHARACTER)] == [4, 8106, 2751]
    assert labels.rows(RATING).tolist() == [0, 1, 2, 3]


def test_names_are_spelled_as_captions_spell_them_and_stay_in_file_order():
    names = read_labels(V3_LABELS).names
    assert names[:6] == ("general", "sensitive", "questionable", "explicit", "1girl", "solo")
    assert {"long hair", "^_^", "@_@", "\\m/", "\\||/", ":d", "?", "hatsune miku"} <= set(names)
    assert not {"long_hair", "^ ^"} & set(names)


def test_quoted_field_is_one_name():
    assert parse_labels(HEADER + '1,"a,b",0,5\n', "x").names == ("a,b",)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "first line"),
        ("name,category\na,0\n", "first line"),
        (HEADER, "no tag"),
        (HEADER + "1,a,0\n", "label 1 has 3 fields"),
        (HEADER + "1,a,0,5\n2,b,3,5\n", "label 2 (b) has category '3'"),
        (HEADER + "1,a,0,5\n2,a,0,5\n", "is a duplicate"),
        (HEADER + "1, ,0,5\n", "no name"),
        (HEADER + '1,"a,0,5\n', "CSV"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "first line"),
    ],
)
def test_malformed_file_is_refused_with_the_line(text, part):
    with pytest.raises(ModelFileError) as caught:
        parse_labels(text, "labels.csv")
    assert "labels.csv" in caught.value.message
    assert part in caught.value.message
    assert caught.value.hint


def test_missing_and_undecodable_files_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"selected_tags\.csv"):
        read_labels(tmp_path / "selected_tags.csv")
    path = tmp_path / "selected_tags.csv"
    path.write_bytes(SMALL_LABELS.encode("utf-16"))
    with pytest.raises(ModelFileError, match="UTF-8"):
        read_labels(path)
