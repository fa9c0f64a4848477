"""What is printed fits the terminal: lines are wrapped by words, tables too, and no bar or spinner
stands in between. Into a pipe each message is one line.
"""

import re
import shutil
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from datasetkit import api
from datasetkit.cli import console
from tests.cli.commands import commands
from tests.cli.conftest import images, write_image
from tests.lora_files.files import pair, save

NAME = "a_photograph_of_mikami_yua_from_the_autumn_collection"
PROJECT = """
[layout]
out = "set"
[train]
max_train_epochs = 2
network_dim = 4
resolution = 64
min_bucket_reso = 64
[[concept]]
name = "mikami yua"
folder = "imgs"
trigger = ["mikami yua"]
exclude = ["tag one", "@face"]
"""
# A command line for each command, on the folders that `project` makes. In this order they depend on
# each other.
LINES = {
    "doctor": ["doctor"],
    "init": ["init", "new", "--trigger", "sks"],
    "scores": ["scores", f"imgs/{NAME}_01.png"],
    "rename": ["rename", "photos", "--dry-run"],
    "resize": ["resize", "photos", "small", "--max", "32"],
    "cutout": ["cutout", "photos", "--dry-run"],
    "faces list": ["faces", "list", "photos", "--text", "--review", "faces.png"],
    "faces crop": ["faces", "crop", "photos", "--dry-run"],
    "faces erase": ["faces", "erase", "photos", "--dry-run", "--text"],
    "tag": ["tag", "imgs", "--tagger", "basic", "--dry-run", "--replace", "nothing=something"],
    "caption": ["caption", "imgs", "--engine", "server", "--model", "tiny", "--dry-run"],
    "rules": ["rules", "imgs", "--exclude", "hiar,tag two", "--additional", "one, two, three, four",
              "--dry-run"],
    "rules groups": ["rules", "groups"],
    "check": ["check", "imgs", "--fix"],
    "check --as": ["check", "imgs", "--as", "sd-scripts"],
    "plan-repeats": ["plan-repeats", "imgs", "--steps", "77777"],
    "layout": ["layout", "mikami_yua_in_the_autumn_collection=imgs", "--out", "other"],
    "reg": ["reg", "photos", "--class", "1girl", "--out", "set"],
    "reg generate": ["reg", "generate", "set", "--base", "tiny", "--class", "1girl", "--dry-run"],
    "report": ["report", "imgs"],
    "export": ["export", "set"],
    "import": ["import", "photos", "--dry-run"],
    "train": ["train", "set", "--dry-run", "--set", "max_train_epochs=2", "--set",
              "min_bucket_reso=64", "--set", "resolution=64"],
    "find-lr": ["find-lr", "set", "--dry-run", "--set", "pretrained_model_name_or_path=tiny",
                "--set", "min_bucket_reso=64", "--set", "resolution=64"],
    "run": ["run", "--dry-run"],
    "history": ["history", "."],
    "undo": ["undo", "imgs", "--dry-run"],
    "grid": ["grid", "a.safetensors", "--base", "tiny", "--prompt", "1girl", "--size", "64",
             "--dry-run"],
    "lora info": ["lora", "info", "a.safetensors", "b.safetensors"],
    "lora check": ["lora", "check", "a.safetensors"],
    "lora resize": ["lora", "resize", "a.safetensors", "--rank", "2", "--dry-run"],
    "lora convert": ["lora", "convert", "a.safetensors", "--to", "diffusers"],
    "lora merge": ["lora", "merge", "a.safetensors", "b.safetensors", "--out", "ab.safetensors"],
    "lora extract": ["lora", "extract", "a.safetensors", "b.safetensors"],
    "keep": ["keep", "a.safetensors", "--to", "loras", "--dry-run"],
    "publish": ["publish", "a.safetensors", "--repo", "me/sks", "--dry-run"],
    "jobs list": ["jobs", "list"],
    "jobs stop": ["jobs", "stop"],
    "jobs ask": ["jobs", "ask", "save"],
    "jobs add": ["jobs", "add", "--hold", "tag", "imgs", "--trigger", "mikami yua"],
    "jobs move": ["jobs", "move", "2", "1"],
    "jobs hold": ["jobs", "hold", "2"],
    "jobs log": ["jobs", "log", "2"],
    "jobs resume": ["jobs", "resume", "2"],
    "jobs remove": ["jobs", "remove", "2"],
    "jobs runner": ["jobs", "runner"],
    "models list": ["models", "list"],
    "models where": ["models", "where"],
    # Errors, with hints.
    "unknown command": ["tga", "imgs"],
    "unknown option": ["tag", "imgs", "--treshold", "1"],
    "no images": ["tag", "empty", "--trigger", "sks"],
    "bad filter": ["rules", "imgs", "--exclude", "lips", "--where", "tag:lips AND AND tag:nose"],
    "bad setting": ["train", "set", "--set", "learning_rte=1"],
}  # fmt: skip
# The headings that rows which are printed as blocks of lines do not repeat.
FIRST_COLUMNS = {"check", "image", "concept", "trained", "at"}
# `review` and `studio` run until they are stopped; `models download` needs a network; `history` is
# one of them.
NOT_RUN = {"review", "studio", "models download"}


def project(folder: Path) -> None:
    """Make images with captions, some of them wrong, a dsk.toml, and two LoRA files."""
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
    for n, name in enumerate("ab"):
        save(folder / f"{name}.safetensors", pair(layer, 8, 8, 4, 4.0, seed=n))
    for n, path in enumerate(images(folder / "photos", 3)):
        path.with_suffix(".txt").write_text(f"photo number {n}, outdoors, tree\n")
    for n in range(1, 6):
        path = write_image(folder / "imgs" / f"{NAME}_{n:02}.png", n)
        tags = ", ".join(f"tag {word}" for word in ("one", "two", "two", "three", "four")[: n + 1])
        path.with_suffix(".txt").write_text(f"mikami yua, 1girl, {tags}, looking at viewer\n")
    (folder / "imgs" / "broken_file_that_is_not_an_image.png").write_bytes(b"nothing")
    (folder / "imgs" / "stray_caption_without_an_image.txt").write_text("sks\n")
    (folder / "empty").mkdir()
    (folder / "dsk.toml").write_text(PROJECT)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project in which each command has something to say."""
    folder = tmp_path_factory.mktemp("made") / "project"
    project(folder)
    api.layout((f"mikami yua={folder / 'imgs'}",), api.LayoutOptions(out=str(folder / "set")))
    return folder


@pytest.fixture
def copy(made, tmp_path, monkeypatch):
    """Return what makes a fresh copy of that project the current folder."""

    def fresh() -> None:
        folder = tmp_path / "project"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        monkeypatch.chdir(folder)

    return fresh


@pytest.fixture
def terminal(monkeypatch):
    """Return what makes both outputs a terminal of so many columns; it draws no bars."""

    def wide(columns: int) -> None:
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", "50")
        for stream in (sys.stdout, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: True)

    return wide


def words(text: str) -> list[str]:
    return sorted(word.removesuffix(":") for word in text.split())


def settled(text: str) -> str:
    """Remove what differs between two runs: times, sizes of a disk, jobs."""
    job = r"\d{8}T\d{6}-[0-9a-f]{10}|place \d+"
    return re.sub(rf"{job}|\d+(\.\d+)? [GM]B|\d\d:\d\d|\d{{4}}-\d\d-\d\d", "", text)


def test_there_is_a_line_for_every_command():
    assert set(commands()) - NOT_RUN <= set(LINES)


# What has to be done first in a fresh copy.
FIRST = {"scores": ["tag", "imgs", "--tagger", "basic", "--existing", "overwrite"]}


@pytest.mark.parametrize("name", LINES)
def test_no_word_is_broken_on_a_terminal_and_a_message_in_a_pipe_is_one_line(
    dsk, copy, terminal, monkeypatch, name
):
    monkeypatch.setenv("COLUMNS", "40")
    copy()
    dsk(*FIRST.get(name, ["--version"]))
    piped = dsk(*LINES[name])
    for line in piped.err.splitlines():
        assert re.match(r"(error|hint|warning|settings): |completed |open: ", line), line
    copy()
    dsk(*FIRST.get(name, ["--version"]))
    terminal(80)
    shown = dsk(*LINES[name])
    assert shown.code == piped.code and (shown.out + shown.err).strip()
    for line in (shown.out + shown.err).splitlines():
        line = re.sub(r"\x1b\[[\d;]*m", "", line)
        assert line == line.rstrip() and (len(line) <= 80 or len(line.split()) == 1), line
    lost = set(words(settled(piped.out))) - set(words(settled(shown.out)))
    assert lost <= FIRST_COLUMNS
    assert words(settled(shown.err)) == words(settled(piped.err))


def test_the_bar_and_the_spinner_are_gone_while_a_line_is_printed(monkeypatch):
    screen = StringIO()
    to = Console(file=screen, force_terminal=True, width=80, highlight=False)
    monkeypatch.setattr(console, "_err", lambda: to)
    monkeypatch.setattr(console, "_out", lambda: to)
    drawn: list[bool] = []
    printing = Console.print

    def is_drawn() -> bool:
        if bars._progress is not None:
            return bars._progress.live.is_started
        return bars._status is not None and bars._status._live.is_started

    def spy(self, *objects, **options):
        if objects and "printed" in str(objects[0]):
            drawn.append(is_drawn())
        printing(self, *objects, **options)

    monkeypatch.setattr(Console, "print", spy)
    with console.bars() as bars:
        bars.phase("loading")
        bars.warn("printed beside a spinner")
        console.say("printed to stdout")
        assert is_drawn()
        bars.start("working", 3)
        bars.advance()
        console.remark("printed beside a bar")
        console.table("printed table", ["one"], [["two"]])
        assert is_drawn()
    assert drawn == [False] * 4
    console.say("printed when all is done")


def test_lines_are_wrapped_by_words_and_keep_their_indent():
    text = Text("  kept aaa bbb.png, ccc: its caption was edited")
    assert [line.plain for line in console.wrapped(text, 20)] == [
        "  kept aaa bbb.png,",
        "    ccc: its caption",
        "    was edited",
    ]
    path = "/a/path/that/is/wider/than/the/terminal.png"
    assert [line.plain for line in console.wrapped(Text(f"see {path} there"), 20)] == [
        "see",
        f"  {path}",
        "  there",
    ]
    assert [line.plain for line in console.wrapped(Text("two\nlines"), 20)] == ["two", "lines"]
    wide = "張 娜 英 張 娜 英"
    assert [line.plain for line in console.wrapped(Text(wide), 8)] == [
        "張 娜 英",
        "  張 娜",
        "  英",
    ]
    assert [line.plain for line in console.wrapped(Text(""), 8)] == [""]


# ---- an error names what was typed


@pytest.mark.parametrize(
    "source", [[], ["--config-file", "config.toml"]], ids=["dsk.toml", "kohya"]
)
@pytest.mark.parametrize(
    ("setting", "message", "hint"),
    [
        ("learning_rte=1", "--set learning_rte: unknown option", "did you mean 'learning_rate'?"),
        ("network_dim=big", "--set network_dim = 'big'", "network_dim is a whole number"),
        ("clip_skip=[1]", "--set clip_skip = [1]", "clip_skip is a whole number"),
        ("flip_aug=1", "--set flip_aug = 1", "flip_aug is true or false"),
    ],
)
def test_a_setting_is_called_what_was_typed(dsk, here, source, setting, message, hint):
    images(here / "set" / "2_sks")
    (here / "config.toml").write_text("train_data_dir = 'set'\n")
    ended = dsk("train", *(source or ["set"]), "--dry-run", "--set", setting)
    assert ended.code == 2 and ended.err.startswith(f"error: {message}")
    assert hint in ended.err and "toml" not in ended.err


def test_a_key_of_the_file_is_called_by_its_table(dsk, here):
    images(here / "set" / "2_sks")
    (here / "set" / "dsk.toml").write_text("[train]\nnetwork_dim = 'big'\n")
    ended = dsk("train", "set", "--dry-run", "--set", "clip_skip=1")
    assert "set/dsk.toml [train]: network_dim = 'big'" in ended.err and "--set" not in ended.err


# ---- the settings in force


@pytest.mark.parametrize(
    ("current", "folder", "is_named"),
    [
        (".", "proj/imgs", True),  # the file is in a folder that nobody named
        ("proj/imgs", ".", True),
        ("proj", "imgs", False),  # the user is in that folder
        (".", "proj", False),
        ("proj", ".", False),
    ],
)
def test_settings_are_named_where_nobody_named_their_folder(
    dsk, here, monkeypatch, current, folder, is_named
):
    images(here / "proj" / "imgs", 1)[0].with_suffix(".txt").write_text("sks\n")
    (here / "proj" / "dsk.toml").write_text("[tag]\nthreshold = 0.5\n")
    monkeypatch.chdir(here / current)
    ended = dsk("rename", folder, "--dry-run")
    assert (f"settings: {here / 'proj' / 'dsk.toml'}\n" in ended.err) is is_named
