"""The page translates texts of the server by their English: each of them must be one still, and
none that the example can show may be missing.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.checks import registry
from datasetkit.verbs.studio import findings
from tests.grid import test_scores as example_scores
from trainer.grid import scores

ROOT = Path(__file__).parents[2]
MESSAGES = ROOT / "datasetkit" / "web" / "ui" / "src" / "messages"
PAIR = re.compile(r'("(?:[^"\\]|\\.)*"|[\w]+):\s+("(?:[^"\\]|\\.)*"),')
SOURCES = (
    "datasetkit/checks", "datasetkit/core", "datasetkit/dataset", "datasetkit/stages",
    "datasetkit/verbs", "datasetkit/options", "datasetkit/project", "trainer",
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
    known = literals() | {findings.why(name) for name in registry.CHECKS}
    assert [text for key, text in as_in_sources.items() if key not in known] == []


# ---- what the example can show

# As in i18n.ts: these placeholders stand for a text of the server.
NESTED = ("problem", "change", "what", "kind")


def untranslated(shown: Iterable[str], language: str) -> list[str]:
    """Return the texts that the page would show in English."""
    known = texts(language)
    patterns = [
        re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+?)", re.escape(text)), re.DOTALL)
        for text in known
        if "{" in text
    ]

    def is_translated(text: str) -> bool:
        if text in known:
            return True
        match = next(filter(None, (pattern.fullmatch(text) for pattern in patterns)), None)
        values = match.groupdict() if match else {}
        return match is not None and all(
            is_translated(value) for name, value in values.items() if name in NESTED
        )

    return [text for text in dict.fromkeys(shown) if not is_translated(text)]


def phases() -> set[str]:
    """Return what a job says that it is doing."""
    calls = (
        node
        for folder in SOURCES
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "phase" and node.args
    )
    return {str(c.args[0].value) for c in calls if isinstance(c.args[0], ast.Constant)}


# Edits of the example's dsk.toml that its plan warns of.
EDITS = (
    "",
    "sample_every_n_steps = 1",
    'lora_format = "both"',
    "network_train_unet_only = true",
    "cache_latents = false",
    "masked_loss = true",
)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("texts") / "kitsu"
    api.init_example(folder)
    return folder


def plans(folder: Path) -> Iterator[str]:
    """Yield the warnings and the shares of memory of the plans."""
    config = folder / "dsk.toml"
    text = config.read_text(encoding="utf-8")
    context = api.RunContext(dry_run=True)
    dataset = api.layout(["5_kitsu=faces"], api.LayoutOptions(out=str(folder / "dataset")))
    assert dataset.warnings == ()
    for edit in EDITS:
        config.write_text(text.replace("[train]", f"[train]\n{edit}"), encoding="utf-8")
        planned = api.plan_training(folder, context=context)
        yield from planned.plan.notices
        yield from (share.name for share in planned.memory.shares)
    config.write_text(text, encoding="utf-8")


def suggestions() -> Iterator[str]:
    """Yield what Compare says of epochs and of the one that it suggests."""
    base = example_scores.BASE
    made = example_scores.variants
    rising = made((0.05, 0.04, 0.06, 0.08, 0.1), (0.43,) * 5)
    copied = [(n, file, replace(m, to_trained=m.to_held_out - 0.2)) for n, file, m in rising]
    one = [(n, file, replace(m, diversity=m.to_held_out / 9)) for n, file, m in rising]
    same = scores.suggest(one, replace(base, diversity=base.to_held_out))
    for each in (
        scores.suggest(made(), base),
        scores.suggest(made((0.4, 0.3, 0.2, 0.1, 0.05), (0.7, 0.6, 0.5, 0.4, 0.3)), base),
        scores.suggest(copied, base),
        scores.suggest(made()[:1], base),
        scores.suggest(made(), replace(base, held_out=None)),
        same,
    ):
        yield from (each.label, *each.reasons, *each.remarks)
    yield from ("without", "step 120")


@pytest.mark.parametrize("language", ["zh", "ru"])
def test_all_that_the_example_can_show_is_translated(example, monkeypatch, language):
    monkeypatch.chdir(example)
    everything = api.check(example, api.CheckOptions(keep_duplicates=("none",)))
    checked = [s for summary in everything.summaries for s in (summary.title, summary.step)]
    assert len(checked) > 4
    checked += [findings.why(summary.check) for summary in everything.summaries]
    planned = [*plans(example)]
    assert len(set(planned)) > 8
    shown = [*checked, *planned, *filter(None, suggestions()), *phases()]
    assert untranslated(shown, language) == ["LoRA"]
