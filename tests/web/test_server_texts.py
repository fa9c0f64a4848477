"""The page translates texts of the server by their English: each of them must be one still."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

from datasetkit.checks import registry

ROOT = Path(__file__).parents[2]
MESSAGES = ROOT / "datasetkit" / "web" / "ui" / "src" / "messages"
PAIR = re.compile(r'("(?:[^"\\]|\\.)*"|[\w]+):\s+("(?:[^"\\]|\\.)*"),')
SOURCES = (
    "datasetkit/checks", "datasetkit/core", "datasetkit/dataset", "datasetkit/stages",
    "datasetkit/verbs", "datasetkit/options", "trainer",
)  # fmt: skip


def texts(language: str) -> dict[str, str]:
    source = (MESSAGES / language / "server.ts").read_text(encoding="utf-8")
    pairs = PAIR.findall(source.partition("{")[2])
    return {json.loads(k) if k[0] == '"' else k: json.loads(value) for k, value in pairs}


@cache
def literals() -> frozenset[str]:
    """Return the texts in the sources, with `\0` for each value in them."""
    found: set[str] = set()
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (p.value if isinstance(p, ast.Constant) else "\0" for p in node.values)
                    found.add("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return frozenset(found)


@pytest.mark.parametrize("language", ["zh", "ru"])
def test_all_checks_have_a_title_in_each_language(language):
    titles = {check.title for check in registry.CHECKS.values()}
    assert titles <= texts(language).keys()
    steps = {c.step for c in registry.CHECKS.values() if not re.search(r"dsk \w+ \{|\[|=", c.step)}
    assert steps - {"dsk check {dataset} --fix"} <= texts(language).keys()


@pytest.mark.parametrize("language", ["zh", "ru"])
def test_each_translated_text_is_one_of_the_server(language):
    as_in_sources = {re.sub(r"\{\w+\}", "\0", text): text for text in texts(language)}
    assert len(as_in_sources) > 100
    assert [text for key, text in as_in_sources.items() if key not in literals()] == []
