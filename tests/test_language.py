"""Code, messages, help and pages use the words of docs/glossary.md, and code keeps to the style.

A word that has to be there is listed in `ALLOWED_TEXTS` with the reason.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from radon.complexity import cc_visit

from tests.cli.commands import commands

ROOT = Path(__file__).parents[1]
if not (ROOT / ".git").exists():
    pytest.skip("not a checkout: git lists the files to read", allow_module_level=True)
CODE = ("datasetkit", "taggers", "trainer")

# What is not written, and what to write instead.
WORDS = {
    r"pictures?": "image, preview image",
    r"data sets?": "dataset",
    r"visit(s|ed)?": "sample",
    r"(?<!of )courses?": "LR schedule",
    r"(lr|learning[ -]rate) curves?": "LR schedule",
    r"twins?": "near-duplicate",
    r"mend(s|ed|ing)?": "fix",
    r"stand-?ins?": "fallback, placeholder",
    r"(?<!contact )(?<!style )(?<![-`])sheets?(?!\.png|:)": "contact sheet",
    r"be had": "is not supported, could not be loaded, download",
    r"(?<!there )is no (?!\w+er\b|more\b|less\b|such\b|need\b)\w+": "is not a, has no",
    r"signs|(one|a) sign": "character",
    r"told|said": "log, record, metadata",
    r"shall": "should, must",
    r"lack(s|ed|ing)?": "is missing, has no",
    r"anew": "again; is rewritten",
    r"whatever": "any, regardless of",
    r"so-called": "nothing",
}
_NOT_WRITTEN = [
    (re.compile(rf"\b(?:{word})(?!\w)", re.IGNORECASE), better) for word, better in WORDS.items()
]


class AllowedText(NamedTuple):
    """A place where a word may be: file names by glob, and a pattern that the line must match."""

    files: str
    line: str
    reason: str


ALLOWED_TEXTS = (
    AllowedText("docs/glossary.md", "", "names what is not written"),
    AllowedText("*NOTICE", "(?i)notice shall be|liability", "a licence"),
    AllowedText("CHANGELOG.md", "In JSON, `pictures`", "names what was renamed"),
)

VAGUE = frozenset("found one own said told left place known".split())
LONG_FUNCTION = 15
GEOMETRY = re.compile(r"\b(?:right|top|bottom)\b")
PARTICIPLES = re.compile(
    r"[A-Z][a-z]+(?:ed|ing)|Found|Seen|Known|Made|Done|Kept|Told|Said|Left|Taken|Given|Drawn|Chosen"
)
ALLOWED_CLASSES = {
    "Done": "an outcome of an image, beside Skipped and Failed",
    "Skipped": "an outcome of an image",
    "Failed": "an outcome of an image",
    "Locked": "an error: the project is locked",
    "Terminated": "an exception: the process is asked to end",
    "Finding": "a noun: what a check reports",
    "Listing": "a noun: the files of a folder",
    "Conditioning": "a noun of the field: what the UNet gets beside the latents",
}
MOST_COMPLEX = 20


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--", *patterns],
        cwd=ROOT, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@cache
def source(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(source(name))


def code() -> list[str]:
    return tracked(*(f"{folder}/*.py" for folder in CODE))


def python_texts(name: str) -> Iterator[tuple[int, str]]:
    """Yield strings with a space in them (others are names and keys), docstrings and comments."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, " ".join(node.value.split())
    for token in tokenize.generate_tokens(io.StringIO(source(name)).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


_SCRIPT = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"[^"\n]* [^"\n]*"|'[^'\n]* [^'\n]*'|`[^`]* [^`]*`"""
    r"|>[^<>{}=;]* [^<>{}=;]*<",
    re.DOTALL,
)


def script_texts(name: str) -> Iterator[tuple[int, str]]:
    """Yield comments, strings with a space in them, and the texts between tags."""
    for match in _SCRIPT.finditer(source(name)):
        text = re.sub(r"\$\{[^}]*\}", "", match.group())
        yield source(name).count("\n", 0, match.start()) + 1, " ".join(text.split())


def prose(name: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of tables and code blocks one by one, and other paragraphs as one line."""
    paragraph: list[str] = []
    first, in_code = 1, False
    for number, line in enumerate([*source(name).splitlines(), ""], 1):
        in_code ^= line.startswith("```")
        if line.strip() and not in_code and not line.startswith(("|", "```")):
            first = first if paragraph else number
            paragraph.append(line.strip())
            continue
        if paragraph:
            yield first, " ".join(paragraph)
            paragraph = []
        yield number, line


def texts(name: str) -> Iterator[tuple[int, str]]:
    if name.endswith(".py"):
        return python_texts(name)
    if name.endswith((".ts", ".tsx")):
        return script_texts(name)
    return prose(name)


def not_written(text: str) -> list[str]:
    return [
        f"{match.group()!r} (write: {better})"
        for pattern, better in _NOT_WRITTEN
        for match in pattern.finditer(text)
    ]


def is_allowed(name: str, line: str) -> bool:
    return any(
        fnmatch(name, place.files) and re.search(place.line, line) for place in ALLOWED_TEXTS
    )


READ = [
    *("datasetkit/*.py", "taggers/*.py", "trainer/*.py", "examples/*.py"),
    *("datasetkit/web/ui/src/*.ts", "datasetkit/web/ui/src/*.tsx"),
    *("*.md", "*NOTICE", "examples/*.toml", "Makefile", "pyproject.toml", ".ci/run"),
]


@pytest.mark.parametrize("pattern", READ)
def test_texts_use_the_words_of_the_glossary(pattern):
    names = tracked(pattern)
    assert names
    assert [
        f"{name}:{number}: {wrong}"
        for name in names
        for number, line in texts(name)
        if not is_allowed(name, line)
        for wrong in not_written(line)
    ] == []


def test_help_uses_the_words_of_the_glossary():
    helps = {
        f"dsk {name} {param}": text
        for name, command in commands().items()
        for param, text in [
            ("", command.help),
            *((param.name, getattr(param, "help", None)) for param in command.params),
        ]
    }
    assert len(helps) > 200
    assert [
        f"{where}: {wrong}" for where, text in helps.items() for wrong in not_written(text or "")
    ] == []


def test_a_word_that_is_not_written_is_found():
    assert not_written("a picture is no image; whatever was told")[:2] == [
        "'picture' (write: image, preview image)",
        "'is no image' (write: is not a, has no)",
    ]
    assert not_written("of course there is no contact sheet; it is no longer here") == []


def test_every_word_that_is_not_written_stands_in_the_glossary():
    glossary = source("docs/glossary.md").casefold()
    words = (
        "picture, data set, visit, course, curve, twin, mend, stand-in, sheet, be had, is no, sign"
    )
    for word in [*words.split(", "), "told", "said", "shall", "lacks", "anew"]:
        assert word in glossary, word


def test_every_allowed_text_is_there():
    assert [
        place
        for place in ALLOWED_TEXTS
        if not any(
            fnmatch(name, place.files) and re.search(place.line, line) and not_written(line)
            for name in tracked()
            if fnmatch(name, place.files)
            for _, line in texts(name)
        )
    ] == []


def test_no_line_of_a_page_is_longer_than_100_columns():
    """Outside of tables, and of what is quoted: code blocks, images, addresses. Ruff and prettier
    check the lines of code.
    """
    quoted = re.compile(r"^```.*?^```|^<!-- table:.*?^<!-- end of table", re.MULTILINE | re.DOTALL)
    assert [
        f"{name}:{number}"
        for name in tracked("*.md")
        for number, line in enumerate(
            quoted.sub(lambda match: "\n" * match.group().count("\n"), source(name)).splitlines(), 1
        )
        if len(line) > 100 and not line.startswith(("|", "![")) and "http" not in line
    ] == []


def classes() -> Iterator[tuple[str, str]]:
    for name in code():
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.ClassDef):
                yield node.name, f"{name}:{node.lineno}"


def test_a_class_name_stands_for_one_thing():
    counts = Counter(name for name, _ in classes())
    assert sorted(f"{name} {where}" for name, where in classes() if counts[name] > 1) == []


def test_no_class_is_named_by_a_participle_alone():
    assert [
        f"{name} {where}"
        for name, where in classes()
        if PARTICIPLES.fullmatch(name.lstrip("_")) and name not in ALLOWED_CLASSES
    ] == []


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def bound_names(function: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the parameters and variables of a function, with their lines."""
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno


def test_long_functions_have_no_vague_variables():
    vague = []
    for name in code():
        for function in functions(name):
            if (function.end_lineno or 0) - function.lineno < LONG_FUNCTION:
                continue
            # `left` is a word of geometry if its companions are near.
            words = VAGUE - ({"left"} if GEOMETRY.search(ast.unparse(function)) else set())
            vague += [f"{name}:{line} {n}" for n, line in bound_names(function) if n in words]
    assert vague == []


def test_no_function_is_too_complex():
    assert [
        f"{name}:{block.lineno} {block.name}: {block.complexity}"
        for name in code()
        for block in cc_visit(source(name))
        if block.complexity > MOST_COMPLEX and type(block).__name__ == "Function"
    ] == []
