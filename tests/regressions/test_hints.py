"""Every hint that names a command or an option is followed on the state that caused it, and ends
better than it began: what was refused is done.
"""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasetkit.checks.registry import CHECKS
from datasetkit.cli import main
from datasetkit.core.errors import Exit
from datasetkit.options.toml import TABLES, options_class
from tests.checks.folders import shapes, sound
from tests.cli.conftest import images, write_image

ROOT = Path(__file__).parents[2]
# A hint that tells people what to type: a command of dsk, or an option.
FILLED = "\N{HORIZONTAL ELLIPSIS}"
TYPED = re.compile(r"dsk [a-z]+|--[a-z]")


@cache
def hints() -> frozenset[str]:
    """Return the hints of the program that name a command or an option, as `module: hint`; what is
    filled in is left out.
    """
    return frozenset(hint.replace(FILLED, "") for hint in all_hints() if TYPED.search(hint))


@cache
def all_hints() -> frozenset[str]:
    """Return the hints of the program, as `module: hint`, with `FILLED` for what is filled in."""
    found = set()
    for package in ("datasetkit", "trainer", "taggers"):
        for path in (ROOT / package).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if "/tools/" in name:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "hint":
                    found.add(f"{name}: {written(node.value)}")
    return frozenset(found)


def written(node: ast.expr) -> str:
    """Return the text of an expression, `FILLED` for each part that is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(written, node.values))
    if isinstance(node, ast.BinOp):
        return written(node.left) + written(node.right)
    texts = [n for n in ast.walk(node) if isinstance(n, ast.Constant | ast.JoinedStr)]
    inside = {id(part) for text in texts if isinstance(text, ast.JoinedStr) for part in text.values}
    strings = [t for t in texts if id(t) not in inside and not isinstance(t, ast.FormattedValue)]
    return (
        f" {FILLED} ".join(
            written(t) for t in strings if not (isinstance(t, ast.Constant) and t.value is None)
        )
        or FILLED
    )


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


def in_cp1252(here: Path) -> None:
    untagged(here)
    for n in range(1, 4):
        (here / "imgs" / f"a{n}.png.txt").write_bytes("caf\xe9\nsolo\n".encode("cp1252"))


def long_name(here: Path) -> None:
    untagged(here)
    write_image(here / "imgs" / f"{'x' * 251}.png", 9)


def config_alone(here: Path) -> None:
    dataset(here)
    (here / "config.toml").write_text('pretrained_model_name_or_path = "tiny"\n')


ON_TINY = "--set pretrained_model_name_or_path=tiny"
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
    Case("name the metadata file with --meta", meta,
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
         (f"train dataset --dry-run --set network_dim=64 --set output_name=sks {ON_TINY}",)),
    Case("dsk undo --partial", imgs, "undo imgs", ("undo --partial imgs",)),
    Case("dsk history lists them", imgs, "undo imgs --to 99", ("history imgs",)),
    Case("run dsk tag imgs first", untagged, "scores imgs/a1.png",
         ("tag imgs",), again=True),
    Case("name one image, e.g. dsk scores", untagged, "scores imgs",
         ("tag imgs", "scores imgs/a1.png")),
    Case("add [[concept]] with folder", empty_toml, "run dsk.toml", (), again=True),
    Case("or run dsk layout", imgs,
         "train imgs --dry-run", ("layout 3_sks=imgs", f"train dataset --dry-run {ON_TINY}")),
    Case("for each, or dsk run for all; --trigger gives all the same one",
         concept_below, "tag . -r", ("tag imgs",)),
    Case("leave --provider out", untagged,
         "tag imgs --tagger basic --provider cuda", ("tag imgs --tagger basic",)),
    Case("give the dataset's folder; dsk layout creates it", imgs,
         "train nowhere --dry-run", ("layout 3_sks=imgs", f"train dataset --dry-run {ON_TINY}")),
    Case("name its encoding, e.g. --encoding cp1252", in_cp1252,
         "import imgs", ("import imgs --encoding cp1252",)),
    Case("dsk rename gives it a short one", long_name,
         "resize imgs out --format webp", ("rename imgs x", "resize imgs out --format webp")),
    Case("name the dataset's folder, or give --dataset-config dataset.toml", config_alone,
         "train --config-file config.toml --dry-run",
         ("train dataset --config-file config.toml --dry-run",)),
]  # fmt: skip

# Hints that other tests follow: the file, and what that test types or calls.
ELSEWHERE = {
    "it is one of your own, which count for one run: --set preset=": (
        "tests/options/test_presets.py",
        '{"preset": "mine", "seed": 9}',
    ),
    "start it with ray start --head, or correct": (
        "tests/cli/test_executor_option.py",
        '"ray start --head" in lines[1]',
    ),
    "or --executor local, which needs no Ray": (
        "tests/cli/test_executor_option.py",
        '"--executor", "local"',
    ),
    "the port of RAY_ADDRESS is that of ray start --head --port": (
        "tests/cli/test_executor_option.py",
        '"6379" in ended.err',
    ),
    "or add --ship-images": ("tests/executors/test_ray_cluster.py", '"ray", "--ship-images"'),
    "take that out of the queue first: dsk jobs remove": (
        "tests/regressions/test_job_queue.py",
        "api.remove_job(second)",
    ),
    "start it with: dsk studio --root": ("tests/web/test_studio_jobs.py", "root=("),
    "or start: dsk --allow-import": ("tests/web/test_studio_jobs.py", "allow_import=True"),
    "the transformer alone: --part unet": ("tests/cli/test_find_lr.py", '"unet"'),
    "each of them into a folder of its own: --out": (
        "tests/regressions/test_hostile_shards.py",
        '"--out", "out/2"',
    ),
    "dsk rename gives each image a name of its own": ("tests/cli/test_shards.py", '"rename"'),
    "name it: --out photos": ("tests/cli/test_shards.py", '"--out", "photos"'),
    "with --out, or move that image away": ("tests/cli/test_shards.py", '"--out", "other"'),
    "with --out, or move them away": ("tests/cli/test_shards.py", '"--out", "other"'),
    "--base-is-distilled, or": ("tests/trainer/test_z_image.py", '"--base-is-distilled"'),
    "--suggest --apply recommended": (
        "tests/cli/test_rules_suggest.py",
        '"--apply", "recommended"',
    ),
    "that dsk rules DIR --suggest prints": ("tests/cli/test_rules_suggest.py", '"hat,1"'),
    "caption_joins.py: --join lines": ("tests/taggers/test_caption_command.py", "join="),
    "run dsk caption for each": ("tests/taggers/test_caption_command.py", 'join="sentence"'),
    "--engine server follows a text": ("tests/taggers/test_caption_command.py", 'engine="server"'),
    "add --engine server": ("tests/taggers/test_caption_command.py", 'engine="server"'),
    "--remote allows that": ("tests/taggers/test_caption_server.py", "remote=True"),
    "name one: --model": ("tests/taggers/test_caption_server.py", 'model="named"'),
    "name the model: --model": ("tests/taggers/test_caption_server.py", 'model="named"'),
    "--endpoint is the base of the API": ("tests/taggers/test_caption_server.py", "base_of"),
    "a larger --timeout": ("tests/taggers/test_caption_server.py", "timeout=60"),
    "give that address as --endpoint": (
        "tests/taggers/test_caption_server.py",
        "endpoint=server.endpoint",
    ),
    "or correct --endpoint": ("tests/taggers/test_caption_server.py", "endpoint=server.endpoint"),
    "--engine florence2- is the same model": ("tests/taggers/test_florence2.py", "florence2-large"),
    "florence2_models.py: --model-dir needs": ("tests/taggers/test_florence2.py", "model_dir=TINY"),
    "search without it, such as with --set": ("tests/cli/test_find_lr.py", "network_args=[]"),
    "or search without --write and use --set": ("tests/cli/test_find_lr.py", '"init"'),
    "=1e-4, without network_train": ("tests/cli/test_find_lr.py", "text_encoder_lr=1e-4"),
    "jobs list shows those that have ended": ("tests/regressions/test_jobs.py", '"jobs", "list"'),
    "ComfyUI reads kohya's: --to kohya": ("tests/lora_files/test_convert.py", "kohya"),
    "jobs remove takes one out of the queue": ("tests/regressions/test_job_queue.py", "remove_job"),
    "jobs list shows what it ran": ("tests/regressions/test_job_queue.py", "api.jobs"),
    "such as: dsk jobs add train": ("tests/regressions/test_job_queue.py", '"jobs", "add"'),
    "jobs list shows the ids": ("tests/regressions/test_jobs.py", '"jobs", "list"'),
    "jobs list shows those that are": ("tests/regressions/test_jobs.py", '"jobs", "list"'),
    "--blocks BASE=1,MID=0.5": ("tests/lora_files/test_merge.py", "blocks"),
    "leave out --blocks": ("tests/lora_files/test_merge.py", "blocks"),
    "--out merged.safetensors": ("tests/lora_files/test_merge.py", "out"),
    "leave out --how and --rank": ("tests/lora_files/test_merge.py", "how"),
    "--how svd": ("tests/lora_files/test_merge.py", "svd"),
    "give --rank 32": ("tests/lora_files/test_merge.py", "rank"),
    "--allow-missing": ("tests/trainer/test_lora_tools.py", "missing"),
    "give --rank 32, or --fro": ("tests/lora_files/test_extract.py", "rank"),
    "--plot .png": ("tests/lora_files/test_checks.py", "plot"),
    "history --recover": ("tests/regressions/test_recovery.py", '"--recover"'),
    "history --forget": ("tests/regressions/test_foreign_projects.py", '"--forget"'),
    "name the folder: dsk undo": ("tests/regressions/test_histories_below.py", '"--to"'),
    "--max-pixels raises": ("tests/regressions/test_bombs.py", "max_pixels"),
    "share of one such as --gpus 0.5": ("tests/executors/test_ray_driver.py", "gpus=0.5"),
    "merge it into a checkpoint: --into": ("tests/lora_files/test_norms.py", "into"),
    "merge them into a checkpoint: --into": ("tests/lora_files/test_norms.py", "into"),
    "dsk jobs list shows its state": ("tests/regressions/test_jobs.py", '"jobs", "list"'),
    "--now to start beside it": ("tests/safety/test_gpu_locks.py", '"--now"'),
    "add --wait": ("tests/safety/test_locks.py", '"--wait"'),
    "--extend": ("tests/trainer", "extend"),
    "--resume": ("tests/trainer", "resume=True"),
    "without --resume": ("tests/trainer", "resume=True"),
    "run `dsk review` on the folder": ("tests/regressions/test_renamed_folders.py", "review"),
    "without --read-only": ("tests/web/test_security.py", "read_only"),
    "`dsk undo` reverts it": ("tests/web/test_history.py", "undo"),
    "--allow-host NAME": ("tests/web/test_security.py", "allow_host"),
    "--port 0": ("tests/web/test_server.py", "port"),
    "dsk check --fix renames what": ("tests/regressions/test_caption_names.py", '"--fix"'),
    "dsk check --only near-duplicate": ("tests/regressions/test_kept_duplicates.py", '"hint: dsk'),
    "dsk undo, or delete the folder": ("tests/trainer/test_reg_generate.py", "undo"),
    "name another disk with --out": ("tests/regressions/test_shared_originals.py", "--out"),
    "move it away and run any dsk": ("tests/regressions/test_durability.py", "appeared"),
    "then --n, --w": ("tests/trainer/test_prompts.py", "--n"),
    "two plain dashes": ("tests/regressions/test_plan_is_run.py", "two plain dashes"),
    "dsk init NEW --example copies it": ("tests/cli/test_init_example.py", "--example"),
    "--to DIR: the folder of LoRAs": ("tests/keep", "--to DIR"),
    "give another one with --to": ("tests/keep", "is not a folder"),
    "give another one with --name": ("tests/keep", "the name"),
    "give another --name": ("tests/keep", "regular file"),
    "give a --name": ("tests/keep", "files of this name"),
    "dsk undo takes the copy back": ("tests/keep", "does not hold"),
    "give another file with --out": ("tests/lora_files", "out"),
    "give another folder with --out": ("tests/lora_files", "out"),
    "--out .safetensors": ("tests/lora_files", "out"),
    "give --precision bf16": ("tests/lora_files", "precision"),
    "one rank: dsk lora resize": ("tests/regressions/test_lora_odd_files.py", "several ranks"),
    "--as-lora": ("tests/lora_files", "as_lora"),
    "dsk lora check": ("tests/lora_files", "check"),
    "all the same with --force": ("tests/lora_files", "force"),
    "dsk layout makes": ("tests/cli/test_publish.py", "replace each other"),
    "give another --repo": ("tests/cli/test_publish.py", "--public"),
    "leave out --public": ("tests/cli/test_publish.py", "--public"),
    "name it with --repo": ("tests/cli/test_publish.py", "no repository"),
    "give one of --rank": ("tests/lora_files", "rank"),
    "dsk lora info shows what it is": ("tests/grid", "of this LoRA is unknown"),
    "name a folder of other images with --held-out": (
        "tests/trainer/test_grid_scores.py",
        "is a training image",
    ),
    "name it with --data": ("tests/trainer/test_grid_scores.py", "--data"),
    "that the LoRA was trained on with --base": ("tests/grid", "--base"),
    "or make one of the axes --z": ("tests/grid", "require_room"),
    "or give one prompt with --prompt": ("tests/grid", "--prompt"),
    "or leave these images out with --no-base": ("tests/grid", "compare_base=False"),
    "leave out one of them, or --sr": ("tests/grid", "twice"),
    "give another one with --out": ("tests/grid", "not a folder"),
    "call it --y": ("tests/grid", "without a y axis"),
    "name the folder that dsk train wrote to": ("tests/grid", "has no LoRA files"),
    "--prompts FILE, or sample_prompts in": ("tests/grid", "no prompt"),
    "name it as a file of options": ("tests/regressions/test_foreign_configs.py", "options"),
}
# Hints that no test can follow here, and why.
NEVER = {
    "use --batch-size 1 or --provider cpu": "needs a GPU",
    "give a folder with its files as --model-dir": "needs a model of the hub",
    "--apply --steps": "the case with 1000 is this hint with its number",
    "run dsk rename to make the names unique": "dsk layout refuses such folders before",
    "run dsk layout to create the folders": "dsk layout is a case; only Python gets here",
    "run dsk tag FOLDER first": "dsk report without captions, which is a case, comes before",
    "another --model": "needs another model",
    "folder with and its label file as --model-dir": "needs a model of the hub",
    "use --provider cpu": "needs a GPU",
    "a smaller batch size or --provider cpu": "needs a GPU",
    "leave --provider out, or give": "needs a GPU",
    "use --precision float32": "needs a GPU",
    "or a smaller --size": "needs a GPU that runs out of memory",
    "try --format png": "an image that no other format holds",
    "make the mask again: dsk cutout": "needs the extra `cutout`",
    "dsk lora convert": "needs a LoRA file of another program",
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
    "letters": worded("sks, she doesn’t smile, １girl"),
    "redundant": worded("sks, hat, baseball cap"),
}
# Steps with a word that a person has to choose, or that need more than one folder.
CHOSEN = {
    "unknown": "old=new", "same-stem": "PREFIX", "origin": "a rule of one's own",
    "caption-unreadable": "NAME of an encoding", "separator": "two ways",
    "namespace": "tests of dsk import", "name-only": "a trigger", "differs": "test of the check",
    "mentions-excluded": "a sentence is reworded by hand",
    "reg-surplus": "test of dsk reg", "text": "tests/regressions/test_outputs_in_datasets.py",
}  # fmt: skip


@pytest.mark.parametrize("name", [c.name for c in CHECKS.values() if "dsk " in c.step])
def test_every_step_of_a_check_that_names_a_command_is_followed(name):
    assert (name in STEPS) != (name in CHOSEN)


@pytest.mark.long
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


def squeezed(text: str) -> str:
    """Return the words and options of a hint, without quotes, spaces and what is filled in."""
    return re.sub(r"[^\w-]+", "", text)


def test_every_hint_that_names_a_command_is_followed_here_or_elsewhere():
    listed = [squeezed(text) for text in (*(case.hint for case in CASES), *ELSEWHERE, *NEVER)]
    missing = [hint for hint in hints() if not any(text in squeezed(hint) for text in listed)]
    assert missing == []


@pytest.mark.parametrize("hint", ELSEWHERE)
def test_what_is_followed_elsewhere_is_a_hint_and_in_that_test(hint):
    assert any(squeezed(hint) in squeezed(text) for text in hints()), "no such hint"
    name, typed = ELSEWHERE[hint]
    path = ROOT / name
    files = sorted(path.glob("test_*.py")) if path.is_dir() else [path]
    assert any(typed in file.read_text(encoding="utf-8") for file in files)


# ---- what a hint names exists
# --------------------------------------------------------------------------------------------------

# Flags of a line of prompts and of ray, not of a command.
OF_OTHERS = {"--flag", "--n", "--w", "--head"}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TABLE = r"(?<!datasetkit)\[+([a-z-]+)\]+"


def options_of(names: Iterable[str]) -> set[str]:
    return {
        flag
        for name in names
        for parameter in COMMANDS[name].params
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }


COMMANDS = main.commands()
EVERY_OPTION = options_of(COMMANDS)


@pytest.mark.parametrize("hint", sorted(all_hints()))
def test_every_command_option_table_and_key_that_a_hint_names_exists(hint):
    module, _, text = hint.partition(": ")
    for first, second in re.findall(r"\bdsk ([a-z][a-z-]*)(?: ([a-z]+)\b)?", text):
        group = {name for name in COMMANDS if name.split()[0] == first}
        assert group or first == "command", f"dsk {first}"
        if group and first not in COMMANDS:
            assert f"{first} {second}" in COMMANDS
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text):
        assert option in EVERY_OPTION | OF_OTHERS, option
    for command, rest in re.findall(r"\bdsk ([a-z-]+(?: [a-z]+)?)([^;,`]*)", text):
        name = command if command in COMMANDS else command.split()[0]
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest) if name in COMMANDS else ():
            assert option in options_of([name]), f"dsk {name} has no {option}"
    for extra in re.findall(r"datasetkit\[([a-z]+)\]", text):
        assert extra in EXTRAS["optional-dependencies"], extra
    for table in re.findall(TABLE, text):
        assert table in (*TABLES, "concept"), table
    for key, table in re.findall(r"\b(\w+)(?: = [^;,]*?)? in \[([a-z-]+)\]", text):
        if key != "out" or table in TABLES:
            assert key in {f.name for f in fields(options_class(table))}, f"{key} in [{table}]"
    for page in re.findall(r"\b[\w/-]+\.md\b", text):
        assert (ROOT / page).is_file() or (ROOT / "docs" / page).is_file(), page
    if module.startswith(("trainer/", "datasetkit/options/train")):
        for key in re.findall(r"`([a-z]+_[a-z_]+)`", text):
            assert key in {f.name for f in fields(options_class("train"))}, key
