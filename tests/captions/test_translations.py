"""Tables of meanings, in the formats that people have."""

import codecs
import random

import pytest

from datasetkit.captions import translations
from datasetkit.captions.translations import own_table, parse, read, read_all

TWO = "long_hair,长发\n1girl,1个女孩\n=_=,无语\n"
THREE = "long_hair,4350743,长发\n1girl,5000000,1个女孩\n=_=,300,无语\n"
FOUR = (
    'long_hair,0,4350743,"/lh,longhair,长发"\n1girl,0,5000000,"1girls,sole_female,1个女孩"\n'
    '=_=,0,300,"无语"\n'
)
LANGUAGES = (
    "name,translated_name,language_code\nlong_hair,长发,zh\nlong_hair,長髪,ja\n"
    "1girl,1个女孩,zh\n=_=,无语,zh-CN\n"
)
EQUATIONS = "// BooruDatasetTagManager\n*long hair=长发\n1girl=1个女孩\n=_==无语\n"
TAB = TWO.replace(",", "\t")
SEMICOLON = TWO.replace(",", ";")
HEADER = "tag,translation\n" + TWO


@pytest.mark.parametrize(
    "text", [TWO, THREE, FOUR, LANGUAGES, EQUATIONS, TAB, SEMICOLON, HEADER],
    ids=["two", "three", "four", "languages", "equations", "tab", "semicolon", "header"],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_every_format_in_every_encoding_gives_the_meaning(text, encoding, ending):
    table = parse(text.replace("\n", ending).encode(encoding), "t.csv")
    assert table.problems == ()
    assert table.of("long hair") == "长发"
    assert table.of("Long_Hair") == "长发"
    assert table.of("1girl") == "1个女孩"
    assert table.of("=_=") == "无语"
    assert len(table.meanings) == 3


def test_language_of_a_table_with_several_can_be_chosen():
    assert parse(LANGUAGES.encode(), "t", language="ja").meanings == {"long hair": "長髪"}
    chinese = parse(LANGUAGES.encode(), "t", language="zh")
    assert chinese.of("=_=") == "无语"
    assert chinese.of("long_hair") == "长发"


def test_first_meaning_of_a_tag_and_the_first_file_count(tmp_path):
    assert parse("a,一\na,二\n".encode(), "t").of("a") == "一"
    first, second = tmp_path / "1.csv", tmp_path / "2.txt"
    first.write_text("a,一\n", "utf-8")
    second.write_text("a=二\nb=三\n", "utf-8")
    both = read_all([first, second])
    assert (both.of("a"), both.of("b")) == ("一", "三")


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("solo,соло", "соло"),
        ("solo,sozinho", "sozinho"),
        ("solo,0,100,\"alone,соло\"", "соло"),
        ("solo,100,sozinho", "sozinho"),
        ("solo,sozinho,pt-BR", "sozinho"),
        ("solo,один,ru", "один"),
        ('solo,"eins, zwei"', "eins, zwei"),
    ],
)  # fmt: skip
def test_other_languages_are_read_too(line, meaning):
    assert parse(f"{line}\n".encode(), "t").of("solo") == meaning


def test_lines_without_a_meaning_are_left_out():
    table = parse("a,一\nb,\n,二\nc\nd,四\ne,五\n".encode(), "t")
    assert table.meanings == {"a": "一", "d": "四", "e": "五"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"long_hair,0,4350743\n1girl,0,5\nsolo,0,4\n", "no meanings in 3 of 3 lines"),
        (b"just\nsome\nwords\n", "no meanings in 3 of 3 lines, e.g. just"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff", "is not text"),
        (b"\xff\xfea", "is not text"),
        (b"a" * 200_000, "100,000 letters"),
    ],
)
def test_what_cannot_be_read_is_named(data, said):
    table = parse(data, "mine.csv")
    assert not table
    assert len(table.problems) == 1
    assert said in table.problems[0]
    assert "mine.csv" in table.problems[0]


def test_missing_file_and_link_are_problems(tmp_path):
    assert "does not exist" in read(tmp_path / "none.csv").problems[0]
    (tmp_path / "link.csv").symlink_to("/etc/passwd")
    assert not read(tmp_path / "link.csv")
    assert read(tmp_path / "link.csv").problems


def test_empty_file_is_no_problem():
    assert parse(b"", "t").problems == ()
    assert parse(codecs.BOM_UTF8 + b"\n\n", "t").problems == ()


def test_meaning_is_one_line_without_control_characters():
    table = parse('a,"one\x1b[31m\u202e  two"\nb,二\n'.encode(), "t")
    assert table.of("a") == "one[31m two"


def test_random_bytes_never_raise():
    stream = random.Random(0)
    for _ in range(300):
        length = stream.randrange(200)
        data = bytes(stream.choice(b',;="\t\n\r\xe9\x95\xbfab0') for _ in range(length))
        parse(data, "t", language=stream.choice(["", "zh"]))


# ---- the own table


def test_new_meaning_is_a_line_and_the_others_do_not_change():
    text = "\ufefftag,translation\r\nlong_hair,长发\r\nsolo,独"
    after = own_table(text, "1girl", 'a "girl", one')
    assert after.startswith(text)
    assert parse(after.encode(), "t").of("1girl") == 'a "girl", one'
    changed = own_table(after, "Long Hair", "long")
    assert parse(changed.encode(), "t").of("long_hair") == "long"
    assert changed.count("\n") == after.count("\n")
    removed = own_table(changed, "long_hair", "")
    assert parse(removed.encode(), "t").meanings.keys() == {"solo", "1girl"}


def test_first_own_meaning_gets_a_header():
    assert own_table("", "solo", "独") == "tag,translation\nsolo,独\n"
    assert own_table("", "solo", "") == ""


@pytest.mark.parametrize("text", [TWO, THREE, FOUR, EQUATIONS, TAB, SEMICOLON, HEADER])
def test_new_meaning_is_read_in_a_table_of_any_format(text):
    changed = own_table(own_table(text, "solo", "独"), "long hair", "长头发")
    table = parse(changed.encode(), "t")
    assert table.problems == ()
    assert [table.of(tag) for tag in ("solo", "long hair", "=_=")] == ["独", "长头发", "无语"]
    assert changed.count("\n") == text.count("\n") + 1


def test_names_of_the_own_files():
    assert translations.OWN_NAME in translations.NAMES
