"""Token counts equal those of transformers' CLIPTokenizer, without torch or transformers."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.captions import tokens
from datasetkit.core.errors import ModelFileError

# Obtained once from CLIPTokenizer of transformers 5.23.0 with the same vocabulary.
GOLDEN = [
    ("", [49406, 49407]),
    ("a photo of a cat", [49406, 320, 1125, 539, 320, 2368, 49407]),
    ("A Photo   of\ta\ncat", [49406, 320, 1125, 539, 320, 2368, 49407]),
    (
        "1girl, solo, long hair, looking at viewer",
        [49406, 272, 1611, 267, 5797, 267, 1538, 2225, 267, 1312, 536, 15061, 49407],
    ),
    ("long_hair, blue_eyes", [49406, 1538, 318, 2225, 267, 1746, 318, 3095, 49407]),
    (
        "it's a girl's hat, don't, we'll",
        [49406, 585, 568, 320, 1611, 568, 3801, 267, 847, 713, 267, 649, 1342, 49407],
    ),
    (
        "MikamiYua, 2girls, 100 yen",
        [49406, 714, 4104, 72, 3371, 320, 267, 273, 1917, 267, 272, 271, 271, 17960, 49407],
    ),
    (
        "^_^, :d, \\(name\\), @_@",
        [49406, 14423, 61, 267, 281, 323, 267, 59, 263, 1981, 59, 2361, 31, 62, 287, 49407],
    ),
    ("cafe\u0301 caf\u00e9", [49406, 15304, 15304, 49407]),
    (
        "初音ミク, 猫",
        [49406, 42748, 251, 165, 253, 111, 2429, 253, 3909, 363, 267, 163, 234, 360, 49407],
    ),
    ("🙂 smile 👩\u200d👧", [49406, 14860, 3490, 26304, 964, 356, 49407]),
    (
        "１２３ ½ Ⅷ",
        [49406, 171, 120, 495, 171, 120, 496, 171, 120, 497, 33613, 158, 227, 371, 49407],
    ),
    ("<|endoftext|> after", [49406, 49407, 953, 49407]),
    ("<|EndOfText|>'s", [49406, 27, 347, 40786, 4160, 91, 285, 568, 49407]),
    ("hatsune miku (vocaloid)", [49406, 3447, 41096, 37703, 263, 34037, 14758, 264, 49407]),
    ("straße İstanbul", [49406, 1894, 127, 253, 324, 328, 16384, 11231, 49407]),
    (
        "x" * 40,
        [49406, 32035, 32035, 32035, 32035, 32035, 32035, 32035, 32035, 32035, 22819, 49407],
    ),
    ("—…’s", [49406, 6718, 7095, 728, 503, 338, 49407]),
]


@pytest.mark.parametrize(("text", "expected"), GOLDEN)
def test_ids_equal_those_of_clip(text, expected):
    assert list(tokens.ids(text)) == expected
    assert tokens.count(text) == len(expected) - 2


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_ids_begin_with_bos_and_end_with_eos_which_are_not_counted(text):
    ids = tokens.ids(text)
    assert (ids[0], ids[-1]) == (tokens.BOS, tokens.EOS)
    assert tokens.count(text) == len(ids) - 2
    assert all(0 <= i <= tokens.EOS for i in ids)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("abcXYZ12_'", min_size=1, max_size=8), max_size=8))
def test_case_and_the_width_of_spaces_take_no_tokens(words):
    assert tokens.ids(" ".join(words)) == tokens.ids("  \n" + " \t ".join(words).upper() + " ")


@pytest.mark.parametrize(
    ("length", "chunks"),
    [(0, 1), (75, 1), (76, 2), (150, 2), (151, 3), (225, 3), (226, 3), (10_000, 3)],
)
def test_a_caption_needs_one_chunk_per_75_tokens_at_most_three(length, chunks):
    assert tokens.chunks_needed(length) == chunks


def test_a_damaged_vocabulary_is_refused(tmp_path, monkeypatch):
    (tmp_path / "vocab.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(tokens, "FOLDER", tmp_path)
    tokens._tokenizer.cache_clear()
    try:
        with pytest.raises(ModelFileError, match="damaged"):
            tokens.ids("cat")
        (tmp_path / "vocab.json").unlink()
        with pytest.raises(ModelFileError, match="cannot read"):
            tokens.ids("cat")
    finally:
        tokens._tokenizer.cache_clear()


def test_importing_the_module_loads_no_tokenizer_package():
    code = (
        "import sys, datasetkit.captions.tokens; print(sorted({'tokenizers', 'torch', "
        "'transformers'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
