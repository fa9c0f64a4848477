"""`--json` prints one JSON document on stdout and nothing else, also with warnings and failures."""

import shutil
from pathlib import Path

import pytest

from datasetkit.cli import console
from tests.cli.conftest import images, write_image


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where the project is kept once it was made: every test works in a copy."""
    return tmp_path_factory.mktemp("made") / "project"


@pytest.fixture
def mixed(dsk, here, made):
    """A captioned folder with a broken image, laid out."""
    if made.exists():
        return shutil.copytree(made, here, dirs_exist_ok=True)
    for n, path in enumerate(images(here / "imgs", 3)):
        path.with_suffix(".txt").write_text(f"sks, [bold]tag {n}[/x], lips\n", encoding="utf-8")
    (here / "imgs" / "broken.jpg").write_bytes(b"nothing")
    images(here / "women", 2)
    (here / "women" / "broken.jpg").write_bytes(b"nothing")
    write_image(here / "good" / "a.png", 3)
    assert dsk("layout", "3_sks=imgs").code == 3
    shutil.copytree(here, made)
    return here


COMMANDS = [
    (("tag", "imgs", "--existing", "overwrite", "--exclude", "eyes"), 3),
    (("rules", "imgs", "--exclude", "lips,eyes"), 3),
    (("rules", "groups"), 0),
    (("resize", "imgs"), 3),
    (("rename", "good", "x"), 0),
    (("plan-repeats", "imgs"), 3),
    (("plan-repeats", "--images", "3"), 0),
    (("layout", "imgs"), 3),
    (("reg", "women", "--class", "1girl"), 3),
    (("report", "imgs", "--plot"), 3),
    (("export", "imgs"), 3),
    (("import", "imgs"), 0),
    (("check", "good", "--sheet", "found.png"), 0),
    (("check", "good", "--as", "sd-scripts"), 0),
    (("init", "good"), 0),
    (("history", "dataset"), 0),
    (("undo", "dataset"), 0),
    (("models", "list"), 0),
    (("models", "where"), 0),
]


@pytest.mark.parametrize(
    ("arguments", "code"), COMMANDS, ids=lambda v: " ".join(v) if isinstance(v, tuple) else ""
)
def test_stdout_holds_one_document(dsk, mixed, arguments, code):
    ended = dsk(*arguments, "--json")
    assert ended.code == code, ended.err
    assert list(ended.json) == ["verb", "dry_run", "result", "warnings", "failed", "unused_files"]
    assert ended.json["dry_run"] is False
    assert [Path(item["path"]).name for item in ended.json["failed"]] == ["broken.jpg"] * (
        code == 3
    )
    assert ended.json["verb"] == " ".join(
        arguments[: 2 if arguments[0] == "models" or "groups" in arguments else 1]
    )
    assert "\x1b" not in ended.out and "NaN" not in ended.out and ended.out.isascii()


@pytest.mark.parametrize(
    ("arguments", "code"), COMMANDS, ids=lambda v: " ".join(v) if isinstance(v, tuple) else ""
)
def test_without_it_warnings_and_failures_go_to_stderr_alone(dsk, mixed, arguments, code):
    ended = dsk(*arguments)
    assert ended.code == code and ended.out
    assert not any(
        line.startswith(("error:", "warning:", "hint:")) for line in ended.out.splitlines()
    )
    assert ("broken.jpg" in ended.err) == (code == 3) and "broken.jpg" not in ended.out
    assert "\x1b" not in ended.out + ended.err


def test_markup_in_tags_and_names_is_text(dsk, mixed):
    assert "[bold]tag 0[/x]" in dsk("report", "imgs").out
    images(mixed / "[red]set[x]", 1)
    ended = dsk("tag", "[red]set[x]", "--dry-run")
    assert ended.code == 0
    assert "[red]set[x]" in dsk("plan-repeats", "[red]set[x]").out


def test_a_run_as_json_is_one_document_of_all_steps(dsk, mixed):
    (mixed / "dsk.toml").write_text(
        '[[concept]]\nfolder = "imgs"\ntrigger = ["sks"]\n', encoding="utf-8"
    )
    ended = dsk("run", "--json")
    assert ended.code == 3
    assert [s["step"] for s in ended.result["steps"]] == [
        "resize",
        "tag",
        "layout",
        "report",
        "export",
    ]


def test_plain_values():
    assert console.plain({(512, 768): float("nan"), "a": (1.5, None, True)}) == {
        "512x768": None,
        "a": [1.5, None, True],
    }
    assert console.plain(frozenset({"b", "a"})) == ["a", "b"] and console.plain(b"abc") == "3 bytes"
