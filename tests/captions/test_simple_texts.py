"""Texts of plain tags are split and listed in a faster way, which must say the same."""

from __future__ import annotations

import random

import pytest

from datasetkit.captions import grammar
from datasetkit.captions.grammar import PLAIN, spans, tag_text
from datasetkit.captions.invisible import without_invisible
from datasetkit.core.files import caption_path, fold, is_readable_name, natural_key, read_regular
from datasetkit.core.records import CaptionSyntax
from datasetkit.project.store import Store

PIECES = ("1girl", "long hair", "a", "1,000", "2023,1girl", "x\\", "{a, b|c}", "é", "\u200b",
          "\x07",
          ",", ", ", ",,", " ", "  ", "\t", "\n", "\r\n", "\x0b", "\x1c", "\x1f", "(b:1.2)", "[c]",
          ";", "")  # fmt: skip
SYNTAXES = (
    PLAIN,
    CaptionSyntax(enable_wildcard=True),
    CaptionSyntax(weighted_captions=True),
    CaptionSyntax(keep_tokens_separator="|||"),
    CaptionSyntax(secondary_separator=";"),
)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_simple_text_has_the_same_tags(syntax, monkeypatch):
    choose = random.Random(0)
    texts = ["".join(choose.choices(PIECES, k=8)) for _ in range(3000)]
    texts += ["".join(choose.choices((*PIECES[:3], ", ", "\n", " "), k=8)) for _ in range(1000)]
    fast = [spans(text, syntax) for text in texts]
    simple = sum(grammar._is_simple(text, syntax) for text in texts)
    monkeypatch.setattr(grammar, "_is_simple", lambda *_: False)
    assert fast == [spans(text, syntax) for text in texts]
    assert (simple > 500) == (not syntax.keep_tokens_separator and not syntax.secondary_separator)


@pytest.mark.parametrize("text", ["a", " a  b ", "a\tb", "a\u200bb", "\ufeffa", "", " ", "é  x"])
def test_a_tag_is_cleaned_in_the_same_way(text):
    slow = grammar._SPACES.sub(" ", without_invisible(text.replace(grammar.BOM, "")))
    assert tag_text(text) == slow.strip()


def test_names_in_ascii_are_compared_as_others_are():
    assert fold("ABC.jpg") == "abc.jpg" and fold("STRASSE") == fold("Straße")
    assert natural_key("A10") > natural_key("a2") and natural_key("B") > natural_key("a")
    assert is_readable_name("a b.jpg")
    assert not is_readable_name("a\nb.jpg") and not is_readable_name("a\x7fb.jpg")


def test_the_keys_of_many_paths_are_those_of_each(tmp_path, monkeypatch):
    (tmp_path / "project" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    with Store.open(tmp_path / "project") as store:
        root = store.root
        paths = [
            root / "a.jpg", root / "sub" / "b.jpg", root, tmp_path / "c.jpg", tmp_path,
            root / "sub" / ".." / "d.jpg", root / "sub" / "..", type(root)("e.jpg"),
            type(root)("sub/f.jpg"), type(root)("."), type(root)("/g.jpg"), type(root)("/"),
            root / "é \udce9.jpg",
        ]  # fmt: skip
        assert list(store.keys(paths)) == [store.key(path) for path in paths]


def test_a_caption_file_is_read_whole(tmp_path):
    path = caption_path(tmp_path / "a.jpg")
    for size in (0, 1, 999_999):
        path.write_bytes(b"x" * size)
        assert read_regular(path, limit=1_000_000) == b"x" * size
