"""Every hint that names a command or an option is followed on the state that caused it, and ends
better than it began: what was refused is done.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasetkit.checks.registry import CHECKS
from datasetkit.core.errors import Exit
from tests.checks.folders import shapes, sound
from tests.cli.conftest import images, write_image

ROOT = Path(__file__).parents[2]
# A hint that tells people what to type: a command of dsk, or an option.
TYPED = re.compile(r"dsk [a-z]+|--[a-z]")


def hints() -> set[str]:
    """Return the hints of the program that name a command or an option, as `module: hint`; what is
    filled in is left out.
    """
    found = set()
    for package in ("datasetkit", "trainer", "taggers"):
        for path in (ROOT / package).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if "/tools/" in name:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "hint":
                    text = "".join(
                        part.value
                        for part in ast.walk(node.value)
                        if isinstance(part, ast.Constant) and isinstance(part.value, str)
                    )
                    if TYPED.search(text):
                        found.add(f"{name}: {text}")
    return found


@dataclass(frozen=True)
class Case:
    """A state, the command that is refused there, the hint that it must print, the commands that
    follow the hint, and whether the refused command must then succeed as it was.
    """

    hint: str
    state: Callable[[Path], object]
    refused: str
    followed: tuple[str, ...]
    again: bool = False


def imgs(here: Path) -> None:
    for n, image in enumerate(images(here / "imgs", 3)):
        image.with_suffix(".txt").write_text(f"sks, solo, tag {n}\n")


def untagged(here: Path) -> None:
    images(here / "imgs", 3)


def dataset(here: Path) -> None:
    imgs(here)
    for n in range(2):
        folder = here / "dataset" / "train" / "2_sks"
        write_image(folder / f"{n}.png", n).with_suffix(".txt").write_text("sks, solo\n")


def same_names(here: Path) -> None:
    images(here / "imgs", 2)
    write_image(here / "imgs" / "a1.jpg", 99)


def meta(here: Path) -> None:
    untagged(here)
    (here / "meta.json").write_text('{"a1": {"tags": "solo"}}')


def empty_toml(here: Path) -> None:
    imgs(here)
    (here / "dsk.toml").write_text("[tag]\nthreshold = 0.5\n")


def concept_below(here: Path) -> None:
    untagged(here)
    (here / "dsk.toml").write_text(
        '[run]\nsteps = ["tag"]\n[[concept]]\nfolder = "imgs"\ntrigger = ["sks"]\n'
    )


def class_images(here: Path) -> None:
    imgs(here)
    images(here / "women", 2)


def untagged_dataset(here: Path) -> None:
    class_images(here)
    for n in range(2):
        write_image(here / "dataset" / "train" / "2_sks" / f"{n}.png", n)


CASES = [
    Case("leave out --fix, --strict and --sheet, or --as", imgs,
         "check imgs --as sd-scripts --fix", ("check imgs --as sd-scripts",)),
    Case("--format png or webp with --alpha keep", untagged,
         "resize imgs out --format jpg --alpha keep",
         ("resize imgs out --format png --alpha keep",)),
    Case("leave OUT away, or --in-place", untagged,
         "resize imgs out --in-place", ("resize imgs --in-place",)),
    Case("name another folder, or --in-place", untagged,
         "resize imgs imgs", ("resize imgs --in-place",)),
    Case("dsk rename makes the names unique", same_names,
         "layout x=imgs", ("rename imgs x --dry-run", "rename imgs x"), again=True),
    Case("leave out --out (or out in [export])", dataset,
         "export dataset --format imagefolder --out elsewhere",
         ("export dataset --format imagefolder",)),
    Case("name it with --meta meta.json", meta,
         "import imgs --from meta", ("import imgs --from meta --meta meta.json",)),
    Case("name sd-scripts' metadata file with --meta", meta,
         "import imgs --meta nowhere.json", ("import imgs --meta meta.json",)),
    Case("dsk layout NAME=DIR, or [[concept]] tables in dsk.toml", imgs,
         "layout", ("layout sks=imgs",)),
    Case("--apply --steps 1000", dataset,
         "plan-repeats dataset --apply", ("plan-repeats dataset --apply --steps 1000",)),
    Case("run dsk layout first", imgs,
         "plan-repeats imgs --apply --steps 50",
         ("layout 3_sks=imgs", "plan-repeats dataset --apply --steps 50")),
    Case("leave out --images or --apply", imgs,
         "plan-repeats --images 3 --apply", ("plan-repeats --images 3",)),
    Case("plan with --images N", lambda here: (here / "nothing").mkdir(),
         "plan-repeats nothing", ("plan-repeats nothing --images 3",)),
    Case("run dsk layout first", class_images,
         "reg women --class 1girl", ("layout 3_sks=imgs",), again=True),
    Case("dsk reg DIR --class 1girl", class_images,
         "reg women", ("layout 3_sks=imgs", "reg women --class 1girl")),
    Case("run dsk tag, then dsk layout", untagged_dataset,
         "reg women --class 1girl --captions derive --trigger sks",
         ("tag imgs --trigger sks", "layout 2_sks=imgs"), again=True),
    Case("--trigger NAME, or trigger in dsk.toml", dataset,
         "reg imgs --class 1girl --captions derive",
         ("reg imgs --class 1girl --captions derive --trigger sks",)),
    Case("dsk rename DIR PREFIX", imgs, "rename imgs", ("rename imgs x",)),
    Case("dsk rules DIR --exclude @face --trigger NAME --dry-run", imgs,
         "rules imgs", ("rules imgs --exclude @face --trigger NAME --dry-run",)),
    Case("dsk init writes one", imgs, "run dsk.toml", ("init imgs",)),
    Case("run dsk tag first", untagged, "report imgs", ("tag imgs",), again=True),
    Case("--class 1girl, or class_name in [reg]", dataset,
         "reg generate dataset --base tiny --count 1 --dry-run",
         ("reg generate dataset --base tiny --count 1 --class 1girl --dry-run",)),
    Case("--base MODEL, or pretrained_model_name_or_path in [train]; `tiny` ships", dataset,
         "reg generate dataset --class 1girl --count 1 --dry-run",
         ("reg generate dataset --class 1girl --count 1 --base tiny --dry-run",)),
    Case("write --set network_dim=64, or --set output_name=sks", dataset,
         "train dataset --dry-run --set network_dim",
         ("train dataset --dry-run --set network_dim=64 --set output_name=sks",)),
    Case("dsk undo --partial", imgs, "undo imgs", ("undo --partial imgs",)),
    Case("dsk history lists them", imgs, "undo imgs --to 99", ("history imgs",)),
    Case("run dsk tag imgs first", untagged, "scores imgs/a1.png",
         ("tag imgs",), again=True),
    Case("name one image, e.g. dsk scores", untagged, "scores imgs",
         ("tag imgs", "scores imgs/a1.png")),
    Case("add [[concept]] with folder", empty_toml, "run dsk.toml", (), again=True),
    Case("dsk layout creates them", imgs,
         "train imgs --dry-run", ("layout 3_sks=imgs", "train dataset --dry-run")),
    Case("for each, or dsk run for all; --trigger gives all the same one",
         concept_below, "tag . -r", ("tag imgs",)),
]  # fmt: skip

# Hints that no test here can follow, and why.
ELSEWHERE = {
    "--precision bf16": "tests/lora_files/test_resize.py follows it",
    "dsk lora resize --as-lora": "tests/lora_files/test_convert.py follows it",
    "dsk lora check": "tests/lora_files/test_checks.py finds such layers",
    "--plot .png": "tests/lora_files/test_checks.py follows it",
    "history --recover": "tests/regressions/test_recovery.py follows it",
    "history --forget": "tests/regressions/test_foreign_projects.py follows it",
    "name the folder: dsk undo": "tests of the histories below a folder follow it",
    "--max-pixels": "tests/regressions/test_bombs.py follows it",
    "--wait": "tests/safety/test_locks.py follows it",
    "--resume": "tests/regressions/test_interruptions.py and tests/trainer follow it",
    "dsk review": "tests/web follows it",
    "`dsk undo` reverts it": "tests/web follows it",
    "--allow-host": "tests/web/test_security.py follows it",
    "--port 0": "tests/web/test_server.py follows it",
    "--apply --steps": "the case with 1000 follows it",
    "--encoding cp1252": "tests/regressions of captions in other encodings follow it",
    "dsk rename gives it a short one": "tests/safety/test_names.py has such names",
    "run dsk rename to make the names unique": "dsk layout refuses such folders before",
    "run dsk layout to create the folders": "dsk layout is a case; only Python gets here",
    "give the dataset's folder; dsk layout creates it": "as the case of train",
    "run dsk tag FOLDER first": "dsk report without captions, which is a case, comes before",
    "move it away and run any dsk command again": "tests/safety/test_faults.py follows it",
    "dsk undo, or delete the folder": "tests/trainer/test_reg_generate.py follows it",
    "--out": "tests/regressions/test_shared_originals.py: needs a full disk",
    "--model": "needs other models, or a model of the hub",
    "--provider": "needs a GPU",
    "--precision float32": "needs a GPU",
    "--size": "needs a GPU that runs out of memory",
    "try --format png": "an image that no other format holds",
    "dsk cutout": "a mask that another program damaged",
    "--dataset-config": "tests/trainer/test_config.py follows it",
    "like --w 512": "a line of a prompt file; tests/trainer/test_prompts.py",
    "then --n, --w": "a line of a prompt file; tests/trainer/test_prompts.py",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.refused)
def test_a_hint_that_is_followed_does_what_was_refused(case, dsk, here):
    case.state(here)
    if case.refused.startswith("undo imgs"):
        dsk("rules", "imgs", "--trigger", "other")
        (here / "imgs" / "a1.txt").write_text("edited since\n")
    ended = dsk(*shlex.split(case.refused))
    assert ended.code not in (Exit.DONE, Exit.INTERNAL)
    assert case.hint in " ".join(ended.err.split())
    if case.state is empty_toml:
        with (here / "dsk.toml").open("a") as file:
            file.write('[run]\nsteps = ["tag"]\n[[concept]]\nfolder = "imgs"\n')
    for command in case.followed:
        followed = dsk(*shlex.split(command))
        assert followed.code == Exit.DONE, (command, followed.err)
    if case.again:
        again = dsk(*shlex.split(case.refused))
        assert again.code == Exit.DONE, again.err


# ---- the next steps of dsk check
# --------------------------------------------------------------------------------------------------


def spoil_image(folder: Path, image: Image.Image, name: str, **save: Any) -> None:
    (folder / "a.png").unlink()
    image.save(folder / name, **save)
    (folder / "a.txt").rename((folder / name).with_suffix(".txt"))


def turned(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    spoil_image(folder, shapes(1), "a.jpg", exif=exif)


def worded(text: str, name: str = "a.txt") -> Callable[[Path], object]:
    """Spoil one caption."""
    return lambda folder: (folder / name).write_bytes(text.encode())


STEPS: dict[str, Callable[[Path], object]] = {
    "suffix": lambda folder: spoil_image(folder, shapes(1), "a.jpg", format="PNG"),
    "format": lambda folder: spoil_image(folder, shapes(1), "a.gif"),
    "alpha": lambda folder: spoil_image(
        folder, Image.new("RGBA", (512, 512), (200, 0, 0, 90)), "a.png"
    ),
    "turned": turned,
    "caption-missing": lambda folder: (folder / "a.txt").unlink(),
    "caption-empty": worded(""),
    "bom": worded("\ufeffsks, 1girl, smile"),
    "invisible": worded("sks, 1girl, smi\u200ble"),
    "lines": worded("sks, 1girl\nsmile"),
    "caption-name": lambda folder: (folder / "a.txt").rename(folder / "a.caption"),
    "trigger-missing": worded("1girl, smile"),
    "trigger-twice": worded("sks, 1girl, sks, smile"),
    "trigger-first": worded("1girl, sks, smile"),
    "tag-twice": worded("sks, 1girl, smile, smile"),
    "underscores": worded("sks, long_hair, blue_eyes"),
    "entities": worded("sks, &gt;_&lt;, girls&#039; frontline"),
    "redundant": worded("sks, hat, baseball cap"),
}
# Steps with a word that a person has to choose, or that need more than one folder.
CHOSEN = {
    "unknown": "old=new", "same-stem": "PREFIX", "origin": "a rule of one's own",
    "caption-unreadable": "NAME of an encoding", "separator": "two ways",
    "namespace": "tests of dsk import", "name-only": "a trigger", "differs": "test of the check",
    "reg-surplus": "test of dsk reg", "text": "tests/regressions/test_outputs_in_datasets.py",
}  # fmt: skip


@pytest.mark.parametrize("name", [c.name for c in CHECKS.values() if "dsk " in c.step])
def test_every_step_of_a_check_that_names_a_command_is_followed(name):
    assert (name in STEPS) != (name in CHOSEN)


@pytest.mark.parametrize("name", STEPS)
def test_the_next_step_of_a_check_leaves_fewer_findings(name, dsk, here):
    folder = sound(here / "my imgs")
    STEPS[name](folder)
    before = dsk("check", "my imgs", "--only", name)
    row = next(line for line in before.out.splitlines() if line.startswith(name))
    command = re.search(r"dsk .*?(?=;| flattens| rotates|, or |$)", row)
    assert command is not None, row
    typed = shlex.split(command.group())[1:]
    assert dsk(*typed).code == Exit.DONE
    made = here / "my imgs-1024"
    after = dsk("check", made if made.is_dir() else "my imgs", "--only", name)
    assert "0 findings" in after.out


# ---- none is forgotten
# --------------------------------------------------------------------------------------------------


def test_every_hint_that_names_a_command_is_followed_here_or_elsewhere():
    listed = [*(case.hint for case in CASES), *ELSEWHERE]
    squeezed = [re.sub(r"\W+", "", text) for text in listed]
    missing = [hint for hint in hints() if not any(s in re.sub(r"\W+", "", hint) for s in squeezed)]
    assert missing == []
