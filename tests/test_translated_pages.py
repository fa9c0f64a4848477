"""The README and the quickstart in other languages say what the English ones say: the same
headings, commands, output, numbers, names and links. When an English page changes, change its
translations.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LANGUAGES = ("zh-CN", "ru")
PAGES = ("README.md", "examples/quickstart/README.md")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# A number with its thousands: 10,000 in English, 10 000 in Russian.
NUMBER = re.compile(r"\d+(?:[,.\u00a0 ]\d{3}(?!\d))*(?:\.\d+)?")
SCRIPTS = {"zh-CN": re.compile("[\u4e00-\u9fff]"), "ru": re.compile("[\u0400-\u04ff]")}


def english(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def path_of(page: str, language: str) -> Path:
    return ROOT / page.replace("README.md", f"README.{language}.md")


def translated(page: str, language: str) -> str:
    return path_of(page, language).read_text(encoding="utf-8")


def with_output(original: str, translation: str) -> str:
    """Return a translation with the English page's blocks of commands and their output, which are
    the same in every language. tests/refresh_pages.py calls it.
    """
    current = [m[0] for m in BLOCK.finditer(original)]
    if len(current) != len(BLOCK.findall(translation)):
        return translation
    remaining = iter(current)

    def block(match: re.Match[str]) -> str:
        new = next(remaining)
        return new if match[1] == "console" and new.startswith("```console") else match[0]

    return BLOCK.sub(block, translation)


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """Return the code blocks: their kind, and their lines without comments and descriptions."""
    return [(m[1], [_without_words(m[1], line) for line in m[2].splitlines()])
            for m in BLOCK.finditer(text)]  # fmt: skip


def _without_words(kind: str, line: str) -> str:
    if kind == "sh":
        return line.partition(" # ")[0].rstrip()
    if kind == "":  # a tree: names, then what they are, behind two spaces or more
        names = re.match(r"( *\S+(?: {1,2}\S+/?(?= ))*?)(?: {2,}.*)?$", line)
        return names[1] if names else line
    return line


def prose(text: str) -> str:
    """Return a page without its code blocks and its line of languages."""
    lines = BLOCK.sub("", text).splitlines()
    return "\n".join(line for line in lines if "](README" not in line or "**" not in line)


def numbers(text: str) -> Counter[str]:
    plain = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", prose(text))
    return Counter(re.sub(r"[,\u00a0 ]", "", number) for number in NUMBER.findall(plain))


def names(text: str) -> Counter[str]:
    """Return what stands in backticks."""
    return Counter(re.findall(r"`([^`\n]+)`", prose(text)))


def links(text: str) -> Counter[str]:
    """Return where links and images lead; a translated page links to translated pages."""
    targets = re.findall(r"\]\(([^)]+)\)", prose(text))
    return Counter(re.sub(r"README\.(?:zh-CN|ru)\.md", "README.md", t) for t in targets)


def headings(text: str) -> list[str]:
    """Return the levels of the headings, with the numbers in them."""
    lines = re.findall(r"^(#+) (.*)$", prose(text), re.MULTILINE)
    return [f"{level} {' '.join(re.findall(r'[0-9]+', title))}" for level, title in lines]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("page", PAGES)
def test_translation_has_the_same_headings_commands_numbers_names_and_links(page, language):
    original, translation = english(page), translated(page, language)
    assert headings(translation) == headings(original)
    assert blocks(translation) == blocks(original)
    assert numbers(translation) == numbers(original)
    assert names(translation) == names(original)
    assert links(translation) == links(original)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("page", PAGES)
def test_every_paragraph_and_comment_is_in_the_language(page, language):
    script = SCRIPTS[language]
    text = translated(page, language)
    paragraphs = [p for p in prose(text).split("\n\n") if re.search(r"[A-Za-z]{4} [a-z]{3}", p)]
    assert [p for p in paragraphs if not script.search(p)] == []
    comments = re.findall(r" # (.*)", "\n".join(m[2] for m in BLOCK.finditer(text) if m[1] == "sh"))
    plain = [c for c in comments if re.search(r"[a-z]{3} [a-z]{3}", c) and not script.search(c)]
    assert plain == []


@pytest.mark.parametrize("page", PAGES)
def test_pages_link_to_each_other(page):
    for language in ("", *LANGUAGES):
        text = translated(page, language) if language else english(page)
        line = next(line for line in text.splitlines() if "](README" in line)
        others = {f"README{f'.{o}' if o else ''}.md" for o in ("", *LANGUAGES) if o != language}
        assert set(re.findall(r"\]\((README[^)]*)\)", line)) == others
        assert line.count("**") == 2


def test_a_difference_is_noticed():
    original = "# A\n\n24 images, `dsk run`, [x](a.md).\n\n```sh\ndsk run  # go\n```\n"
    same = "# Б\n\n24 картинки, `dsk run`, [х](a.md).\n\n```sh\ndsk run  # вперёд\n```\n"
    checks = (headings, blocks, numbers, names, links)
    assert all(check(same) == check(original) for check in checks)
    for old, new in (
        ("# Б", "## Б"), ("24", "25"), ("`dsk run`", "`dsk tag`"), ("a.md", "b.md"),
        ("dsk run  #", "dsk tag  #"),
    ):  # fmt: skip
        changed = same.replace(old, new)
        assert any(check(changed) != check(original) for check in checks), (old, new)


def test_output_is_copied_and_the_words_stay():
    original = "# A\n\n```console\n$ dsk run\nnew\n```\n\n```sh\ndsk run  # go\n```\n"
    old = "# Б\n\n```console\n$ dsk run\nold\n```\n\n```sh\ndsk run  # вперёд\n```\n"
    assert with_output(original, old) == old.replace("old", "new")
    assert with_output("# A\n", old) == old
    for page in PAGES:
        for language in LANGUAGES:
            text = translated(page, language)
            assert with_output(english(page), text) == text


def test_thousands_are_compared_in_both_spellings():
    assert numbers("10,000 images and 1,920") == numbers("10 000 картинок и 1\u00a0920")
    assert numbers("95 % within 31 ms") == numbers("95 % за 31 мс")
    assert numbers("2 3") != numbers("23")
