"""Every command line of dsk that a page shows is run once, in a project that has what it names.

Paths that a line names and nobody made are made: folders of images, captions, LoRA files, dsk.toml.
What would train for minutes or upload is run with --dry-run.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasetkit.cli.main import run
from tests.cli.commands import commands
from tests.lora_files.files import pair, save
from tests.test_docs_links import PAGES
from tests.test_pages import QUICKSTART, ROOT

pytestmark = pytest.mark.long

COMMANDS = commands()
# Commands that would take minutes or leave the machine.
DRY = {"caption", "find-lr", "grid", "publish", "reg generate", "train"}
# Lines that are parsed and not run, and why.
PARSED = {
    r"review|studio": "it serves a page until it is stopped",
    r"models download": "it downloads",
    r"jobs (stop|ask)": "it needs a training that runs",
    r"caption .*--engine server|caption .*--endpoint": "it needs a server",
    r"tag .*--tagger (?!basic)": "it needs a model of the hub: tests/taggers",
    r"lora (merge .*--into|extract)": "it needs a full checkpoint: tests/lora_files",
    r"train .*(--config-file|config\.toml|preset\.json)": "tests/regressions/test_foreign_configs",
    r"undo --to": "it needs twelve commands before it",
    r"report .*--where edited": "it needs edits of a person: tests/regressions",
    r".*--executor ray": "it needs a cluster: tests/executors",
    r"grid": "it needs the LoRA files of a run: tests/trainer",
}
# What else pages type, and what runs it.
OTHERS = {
    "pip": "tests/installs", "uv": "tests/installs", "pipx": "tests/installs", "make": ".ci/run",
    "python": "the test of what it names", "docker": "docs/docker.md says what was tried",
    "git": "", "cp": "", "head": "", "cd": "", "source": "", "ssh": "",
    "tmux": "", "rsync": "", "hf": "",
    "tar": "tests/taggers/test_readme_offline.py", "mkdir": "", "cat": "tests/test_pages.py",
    "tail": "tests/test_pages.py", "accelerate": "another program", "pre-commit": "", "nohup": "",
    "eval": "tests/cli/test_completion.py", "export": "", "ray": "tests/executors",
}  # fmt: skip
# Pages with dozens of commands, or with models on every image.
SLOW = {"docs/from-the-tutorials.md", "docs/commands/cutout.md", "docs/commands/faces.md"}
PATH_SUFFIXES = {".safetensors", ".toml", ".json", ".csv", ".png", ".txt", ".jsonl"}


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of a page's blocks of commands."""
    text = page.read_text(encoding="utf-8")
    for kind, body in re.findall(r"^```(sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield kind, body.replace("\\\n", " ")


def lines(page: Path) -> Iterator[tuple[list[str], str]]:
    """Yield the words of each command line, and what the page shows below it."""
    for kind, body in blocks(page):
        if kind == "sh":
            pieces = [(line, "") for line in body.splitlines()]
        else:
            parts = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
            pieces = [(line, shown) for line, _, shown in (part.partition("\n") for part in parts)]
        for line, shown in pieces:
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"_?[A-Z][A-Z_0-9]*=.*", words[0]):
                words = words[1:]
            if words:
                yield words, shown


def of_dsk(page: Path) -> list[list[str]]:
    """Return the command lines of dsk whose result is not an error on purpose."""
    ends = {"|", ">", "&&", "||", "&", "2>&1", ">>"}
    found = []
    for words, shown in lines(page):
        is_command = words[0] == "dsk" and words[1:] and words[1][0] not in "->"
        if is_command and not re.search("^error: ", shown, re.MULTILINE):
            end = next((n for n, word in enumerate(words) if word in ends), len(words))
            found.append(words[1:end])
    return found


# One page of those with the same lines: the README in other languages.
PAGES_WITH_COMMANDS = list(
    {str(of_dsk(page)): page for page in PAGES[::-1] if of_dsk(page)}.values()
)


def full_name(words: list[str]) -> str:
    return next((n for n in (" ".join(words[:2]), words[0]) if n in COMMANDS), words[0])


def test_pages_type_commands_that_are_known_to_run():
    unknown = {
        (page.name, words[0])
        for page in PAGES
        for words, _ in lines(page)
        if words[0] not in ("dsk", ".", "...") and Path(words[0]).name not in OTHERS
    }
    assert unknown == set()
    assert sum(len(of_dsk(page)) for page in PAGES) > 100


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart after its run, with a LoRA and other tools' files."""
    project = tmp_path_factory.mktemp("world") / "project"
    shutil.copytree(
        QUICKSTART, project, ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__")
    )
    here = Path.cwd()
    os.chdir(project)
    try:
        assert run(["run", "dsk.toml"]) == 0
    finally:
        os.chdir(here)
    return project


def provide(word: str, world: Path, home: Path) -> None:
    """Make what a word names, if it looks like a path and nothing is there."""
    path = Path(word)
    if path.is_absolute() or word.startswith("-") or path.exists() or ".." in path.parts:
        return
    if path.suffix == ".safetensors":
        path.parent.mkdir(parents=True, exist_ok=True)
        layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
        seed = len(word)
        save(path, pair(layer, 8, 8, 4, 4.0, seed=seed), {"ss_network_module": "networks.lora"})
    elif path.suffix == ".toml":
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(world / ("dataset/dataset.toml" if "dataset" in word else "dsk.toml"), path)
    elif path.name == "concepts.json":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([{"path": str(home / "images"), "name": "sks"}]))
    elif path.suffix == ".json":
        path.write_text('{"1": {"tags": "1girl"}}')
    elif path.suffix == ".tar" or path.name == "shards":
        shard = path if path.suffix else path / "train-000000.tar"
        shard.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(shard, "w") as tar:
            for image in (world / "work" / "sylvie").glob("*.jpg"):
                tar.add(image, image.name)
    elif path.suffix in (".jpg", ".png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(next((world / "work" / "sylvie").glob("*.jpg")), path)
    elif path.name in ("my-project", "project"):
        shutil.copytree(world, path)
    elif "." not in path.name.strip("."):
        shutil.copytree(world / "work" / "sylvie", path)


def make_room(name: str) -> None:
    """Remove what stands where a command makes something new."""
    if name in ("init", "import"):
        Path("dsk.toml").unlink(missing_ok=True)
    if name in ("reg", "reg generate"):
        shutil.rmtree("dataset/reg", ignore_errors=True)
    if name.startswith("lora "):
        for made in Path("output").glob("*-fro*"):
            made.unlink()


def prepared(words: list[str], world: Path, home: Path) -> list[str]:
    """Return a line as it is run here; what it reads is made first."""
    name = full_name(words)
    command = COMMANDS[name]
    options = {o: param for param in command.params for o in (*param.opts, *param.secondary_opts)}
    outputs = {"--out", "--plot", "--sheet", "--review", "--report", "--html", "--repo"}
    result: list[str] = []
    after = ""
    for word in words:
        if after == "--set" and word.startswith("pretrained_model_name_or_path="):
            word = "pretrained_model_name_or_path=tiny"
        elif after == "--base":
            word = "tiny"
        elif after not in options and not word.startswith("-") and len(result) >= len(name.split()):
            if name not in ("init", "scores", "undo", "history") or "/" in word:
                target = word.rpartition("=")[2] if name == "layout" else word.partition(":")[0]
                second = name in ("resize", "cutout", "faces crop", "faces erase") and any(
                    not w.startswith("-") for w in result[len(name.split()) :]
                )
                if not second and name not in ("rules groups", "jobs stop", "jobs ask"):
                    provide(target, world, home)
        elif after in options and after not in outputs and Path(word).suffix in PATH_SUFFIXES:
            provide(word, world, home)
        result.append(word)
        after = word
    if name in DRY and "--dry-run" not in result:
        result.append("--dry-run")
    if name in ("train", "find-lr") and "pretrained_model_name_or_path" not in " ".join(result):
        result += ["--set", "pretrained_model_name_or_path=tiny"]
    return result


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page, id=page.as_posix(), marks=[pytest.mark.slow] if page.as_posix() in SLOW else []
        )
        for page in (path.relative_to(ROOT) for path in PAGES_WITH_COMMANDS)
    ],
)
def test_each_command_line_of_a_page_runs(page, world, tmp_path, monkeypatch, capsys):
    home = tmp_path / "project"
    shutil.copytree(world, home)
    monkeypatch.chdir(home)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    failed = []
    for words in of_dsk(ROOT / page):
        name = full_name(words)
        if any(re.match(pattern, " ".join(words)) for pattern in PARSED):
            COMMANDS[name].make_context(name, words[len(name.split()) :])
            continue
        make_room(name)
        code = run(prepared(words, world, home))
        printed = capsys.readouterr()
        if code not in (0, 3, 20):
            failed.append(f"dsk {shlex.join(words)}: {code}\n{printed.err.strip()[-300:]}")
    assert failed == [], "\n".join(failed)
