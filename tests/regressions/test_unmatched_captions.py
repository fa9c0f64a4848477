"""Captions with sentences that no rule, fix or edit matches: every command leaves their bytes."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from datasetkit.captions import vocabulary
from tests.cli.conftest import write_image
from tests.web.client import review

WORDS = (
    "a girl the wall red blue scarf stands sits before behind smiling and as ever in of light "
    "window long hair hat with her dog park evening photo it is quiet 1,000 lamps"
).split()
MATCHED = ("smil", "scarf", "lips", "(", "/")
NAMES = [
    name
    for name in vocabulary.load().names
    if name.isascii() and " " in name and not any(word in name for word in MATCHED)
][:400]
FIXES = "lines,tag-twice,trigger-first,trigger-twice,separator,letters,entities,namespace"
CONFIG = """
[dataset]
captions = "mixed"
[tag]
trigger = ["kitsu"]
"""


def sentence(rng: random.Random) -> str:
    """Return clauses with repeated words, which look like tags that repeat."""
    clauses = [" ".join(rng.choices(WORDS, k=rng.randrange(1, 6))) for _ in range(rng.randrange(4))]
    return ", ".join(["A girl", *clauses, "smiling", "smiling"]) + rng.choice(".!?")


def caption(rng: random.Random) -> str:
    """Return a mixed caption: tags, sentences before or behind them, or only sentences."""
    names = ", ".join(rng.sample(NAMES, rng.randrange(1, 8)))
    tags = f"kitsu, {names}"
    sentences = [sentence(rng) for _ in range(rng.randrange(1, 3))]
    lines = rng.choice(
        [[tags, *sentences], [tags], [f"kitsu, {sentences[0]}", names], [f"kitsu, {sentences[0]}"]]
    )
    return "\n".join(lines) + rng.choice(["\n", "", "\n\n"])


def written(folder: Path, texts: list[str]) -> dict[Path, bytes]:
    """Write captions beside images, which are hard links to a few; return their bytes."""
    images = [write_image(folder.parent / "few" / f"{n}.png", 30 * n) for n in range(8)]
    folder.mkdir(parents=True)
    (folder.parent / "dsk.toml").write_text(CONFIG)
    for n, text in enumerate(texts):
        os.link(images[n % len(images)], folder / f"{n:05}.png")
        (folder / f"{n:05}.txt").write_bytes(text.encode())
    return {path: path.read_bytes() for path in sorted(folder.glob("*.txt"))}


def leave_unchanged(dsk, here: Path, texts: list[str]) -> None:
    folder = here / "set"
    before = written(folder, texts)

    def same() -> bool:
        return {path: path.read_bytes() for path in sorted(folder.glob("*.txt"))} == before

    for given_rules in (
        ["--exclude", "smile,smiling,*scarf*,lips", "--replace", "smiling=grinning"],
        ["--exclude", "category:rating,no such tag", "--replace", "wall=floor"],
        ["--trigger", "kitsu"],
        ["--split", "--underscores-to-spaces", "--escape-brackets"],
    ):
        ended = dsk("rules", "set", *given_rules, "--json")
        assert ended.code == 0 and ended.result["changes"] == [], given_rules
        assert same(), given_rules
    assert dsk("check", "set", "--fix", "--only", FIXES).code in (0, 1) and same()
    assert dsk("tag", "set", "--tagger", "basic").code == 0 and same()
    with review(folder) as page:
        for wanted in ({"remove": ["smiling"]}, {"replace": [["smiling", "grin"]]},
                       {"exclude": ["*scarf*"]}, {"trigger": ["kitsu"]}):  # fmt: skip
            assert page.do(**wanted)["changed"] == 0
    assert same()
    assert dsk("import", "set").code in (0, 10) and same()
    assert dsk("layout", "kitsu=set", "--repeats", "1").code == 0 and same()
    [train] = (here / "dataset" / "train").iterdir()
    copies = {path.name: path.read_bytes() for path in train.glob("*.txt")}
    assert copies == {path.name: data for path, data in before.items()}
    assert dsk("layout", "kitsu=set", "--repeats", "1", "--json").result["changes"]["ops"] == []
    for format in ("kohya", "imagefolder", "meta"):
        assert dsk("export", "dataset", "--format", format).code == 0
    assert {path.name: path.read_bytes() for path in train.glob("*.txt")} == copies
    assert len(json.loads((here / "dataset" / "meta.json").read_text())) == len(texts)
    assert dsk("report", "set").code == 0
    assert dsk("rename", "set", "kitsu").code == 0
    assert sorted(p.read_bytes() for p in folder.glob("*.txt")) == sorted(before.values())
    assert dsk("undo", "set").code == 0 and same()


@pytest.mark.long
def test_thirty_captions_that_nothing_matches(dsk, here):
    leave_unchanged(dsk, here, [caption(random.Random(n)) for n in range(30)])


@pytest.mark.slow
def test_ten_thousand_captions_that_nothing_matches(dsk, here):
    leave_unchanged(dsk, here, [caption(random.Random(n)) for n in range(10_000)])
