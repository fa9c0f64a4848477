"""A prompts file is read in sd-scripts' format, and errors have their line number."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from datasetkit.core.errors import ConfigError
from datasetkit.options.train import TrainOptions
from trainer.monitor.prompts import parse, read


def options(path, **others):
    return TrainOptions(sample_prompts=str(path), **others)


def written(tmp_path, text, **others):
    path = tmp_path / "prompts.txt"
    path.write_text(text, encoding="utf-8")
    return read(options(path, **others))


def test_every_flag_of_a_line_is_read(tmp_path):
    (prompt,) = written(
        tmp_path,
        "masterpiece, sks --n low quality, bad --w 384 --h 640 --d 7 --l 5.5 --s 28 --ss euler_a\n",
    )
    assert (prompt.text, prompt.negative) == ("masterpiece, sks", "low quality, bad")
    assert (prompt.width, prompt.height, prompt.seed) == (384, 640, 7)
    assert (prompt.guidance, prompt.steps, prompt.sampler) == (5.5, 28, "euler_a")


def test_comments_blank_lines_and_a_byte_order_mark_are_ignored(tmp_path):
    found = written(tmp_path, "\ufeff# two prompts\n\n  sks  \n#sks\nsks, hat\r\n")
    assert [prompt.text for prompt in found] == ["sks", "sks, hat"]


def test_defaults_of_a_line_are_those_of_the_run(tmp_path):
    first, second = written(
        tmp_path, "a\nb\n", resolution=(500, 768), seed=9, sample_sampler="euler"
    )
    assert (first.width, first.height, first.sampler) == (496, 768, "euler")
    assert (first.seed, second.seed) == (9, 10)


def test_dash_within_a_word_is_not_a_flag():
    assert parse("long-haired girl -- really, e--mail --s 3") == {
        "text": "long-haired girl -- really, e--mail",
        "steps": 3,
    }


@given(
    text=st.from_regex(r"[a-z][a-z ,()-]{0,40}[a-z]", fullmatch=True),
    seed=st.integers(0, 2**63 - 1),
)
def test_text_before_the_flags_is_kept(text, seed):
    assume(re.search(r"--(n|ss) ", text) is None)  # refused: it was meant as a flag
    told = parse(f"{text} --d {seed}")
    assert (told["text"], told["seed"]) == (text, seed) or " --" in text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sks --width 512", "prompts.txt, line 2: unknown flag --width did you mean --w?"),
        ("sks --neg bad", "did you mean --n?"),
        ("sks --cn depth.png", "the flags are --n negative, --w width"),
        ("sks --w wide", "--w wide is not a number"),
        ("sks --w", "--w has no value write it like --w 512"),
        ("sks --w 1e3", "--w 1e3 is not a whole number write it like --w 1000"),
        ("sks --s 2.0e1", "--s 2.0e1 is not a whole number write it like --s 20"),
        ("sks --w 0x200", "--w 0x200 is not a number write it like --w 512"),
        ("sks --w 1e400", "--w 1e400 is not a whole number write it like --w 512"),
        ("sks --w " + "9" * 5000, "… is not a whole number write it like --w 512"),
        ("sks --w=640", "unknown flag --w=640 write a space behind the flag: --w 640"),
        ("sks --d7", "unknown flag --d7 write a space behind the flag: --d 7"),
        ("sks\t--w\t500", "--w 500 is not a multiple of 8"),
        ("sks --w \u200b512", r"--w \u200b512 is not a number"),
        ("sks --w 500", "not a multiple of 8 give 496"),
        ("sks --h 32", "--h = 32 is out of range"),
        ("sks --s 0", "--s = 0 is out of range"),
        ("sks --l nan", "--l = nan is out of range"),
        ("sks --d -1", "--d = -1 is out of range"),
        ("sks --w 512 --w 640", "--w is given twice"),
        ("sks --ss euler_b", "did you mean 'euler"),
        ("--w 512", "no prompt before"),
    ],
)
def test_error_has_its_line_number(tmp_path, line, words):
    with pytest.raises(ConfigError) as caught:
        written(tmp_path, f"# prompts\n{line}\n")
    assert words in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "space", ["\t", "\u2028", "\u2029", "\x85", "\x0b", "\xa0", "\u3000", " \t "]
)
def test_any_space_separates_words_and_only_line_ends_separate_prompts(tmp_path, space):
    line = f"sks,{space}hat{space}--w{space}640{space}--n{space}bad{space}--ss{space}Euler\r\n"
    first, second = written(tmp_path, f"{line}sks\n")
    assert (first.text.split(), first.negative) == (["sks,", "hat"], "bad")
    assert (first.width, first.sampler, second.text) == (640, "euler", "sks")


def test_missing_empty_or_binary_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read(options(tmp_path / "none.txt"))
    with pytest.raises(ConfigError, match="has no prompt"):
        written(tmp_path, "# nothing\n\n")
    for data in (b"\xff\xfe\x00", "sks, hat".encode("utf-16-le")):
        (tmp_path / "prompts.txt").write_bytes(data)
        with pytest.raises(ConfigError, match="UTF-8"):
            read(options(tmp_path / "prompts.txt"))
    with pytest.raises(ConfigError, match="is not a text file"):
        read(options(tmp_path / "prompts.toml"))


def test_a_file_of_thousands_of_prompts_is_refused(tmp_path):
    """Their images are in memory at once; it is another file that was named."""
    assert len(written(tmp_path, "sks\n" * 256)) == 256
    with pytest.raises(ConfigError, match=r"has 10,000 prompts; at most 256 are taken"):
        written(tmp_path, "sks\n" * 10_000)


def test_no_prompts_without_sample_prompts():
    assert read(TrainOptions()) == ()
    with pytest.raises(ConfigError, match="need prompts"):
        TrainOptions(sample_every_n_epochs=1)
    with pytest.raises(ConfigError, match="sample_sampler = 'eulr'"):
        TrainOptions(sample_sampler="eulr")
