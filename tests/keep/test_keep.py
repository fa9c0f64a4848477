"""`dsk keep`: what web interfaces find beside the copy, what is never replaced, and undo."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.core.errors import ConfigError, InputError, ModelFileError, StorageError
from datasetkit.images import pixels
from datasetkit.images.parameters import parameters
from datasetkit.verbs.keep import KeepResult
from tests.cli.conftest import dsk as dsk
from tests.cli.conftest import here as here
from tests.keep.readers import a1111, comfyui
from tests.lora_files.files import pair, save

LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
METADATA = {
    "ss_network_module": "networks.lora",
    "ss_base_model_version": "sd_v1",
    "ss_sd_model_name": "v1-5.safetensors",
    "ss_dataset_dirs": json.dumps({"8_sks": {"n_repeats": 8, "img_count": 3}}),
    "ss_tag_frequency": json.dumps({"8_sks": {"1girl": 3, "sks": 3}}),
    "ss_steps": "960",
    "ss_epoch": "8",
}
TEXT = parameters(
    "sks, smile <lora:sks-000008:0.8>", "blurry", steps=20, sampler="ddim", cfg=7, seed=1,
    size=(64, 64), model="v1-5", model_hash="abc", clip_skip=1, program="datasetkit",
    lora_hashes="sks-000008: 0123456789ab",
)  # fmt: skip


def lora(folder: Path, name: str = "sks-000008", seed: int = 0) -> Path:
    return save(folder / f"{name}.safetensors", pair(LAYER, 8, 8, 4, 4.0, seed=seed), METADATA)


def cell(path: Path, size: tuple[int, int] = (64, 64), text: str = TEXT) -> Path:
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pixels.encode(image, "PNG", text={"parameters": text}))
    return path


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


def keep(file: Path, to: Path, **options: Any) -> KeepResult:
    return api.keep(file, api.KeepOptions(to=str(to), **options))


@pytest.fixture
def run(tmp_path):
    """The output folder of a training, with the LoRA of an epoch."""
    return lora(tmp_path / "output")


@pytest.fixture
def loras(tmp_path):
    folder = tmp_path / "loras"
    folder.mkdir()
    return folder


def test_web_interfaces_find_the_copy_its_preview_its_trigger_and_its_weight(run, loras, tmp_path):
    image = cell(tmp_path / "grid" / "images" / "a.png", (2048, 1024))
    before = tree(loras)
    result = keep(run, loras, weight=0.8, preview=str(image))
    assert result.file == loras / "sks.safetensors"
    assert result.file.read_bytes() == run.read_bytes()
    card = a1111(loras, "sks")
    assert card.preview == loras / "sks.preview.png"
    assert card.prompt == "<lora:sks:0.8> sks"
    assert card.version == "SD1"
    assert "960" in json.loads((loras / "sks.json").read_text())["notes"]
    assert comfyui(loras, "sks") == [loras / "sks.preview.png"]
    with Image.open(loras / "sks.preview.png") as shown:
        assert shown.size == (1024, 512)
    text = pixels.png_text(loras / "sks.preview.png")["parameters"]
    assert text == TEXT.replace("sks-000008", "sks")
    assert set(tree(loras)) == {"sks.safetensors", "sks.preview.png", "sks.json"}
    api.undo(run.parent)
    assert tree(loras) == before


def test_the_same_bytes_are_not_copied_again(run, loras):
    first = keep(run, loras)
    again = keep(run, loras)
    assert (first.state, again.state, again.changed, again.entry) == ("copied", "present", (), None)


def test_another_file_of_the_name_stays_and_the_copy_gets_a_number(run, loras):
    other = lora(loras, "sks", seed=5).read_bytes()
    result = keep(run, loras)
    assert result.file.name == "sks-2.safetensors"
    assert (loras / "sks.safetensors").read_bytes() == other
    assert any("--replace" in note for note in result.notes)
    # A third one, and the second again, which has its number already.
    assert keep(lora(run.parent, "sks-000010", seed=9), loras).file.name == "sks-3.safetensors"
    assert keep(run, loras).state == "present"


def test_a_replaced_file_comes_back_with_undo(run, loras):
    lora(loras, "sks", seed=5)
    cell(loras / "sks.preview.png", text="theirs")
    (loras / "sks.json").write_text('{"notes": "mine"}')
    before = tree(loras)
    result = keep(run, loras, replace=True, preview=str(cell(run.parent / "c.png")))
    assert result.state == "replaced"
    assert (loras / "sks.safetensors").read_bytes() == run.read_bytes()
    assert set(tree(loras)) == set(before)
    api.undo(run.parent)
    assert tree(loras) == before


def test_the_keys_of_a_person_win_and_empty_ones_are_filled(run, loras):
    mine = {"description": "für Mia", "preferred weight": 0.6, "activation text": "",
            "sd version": "Unknown", "my key": [1, 2]}  # fmt: skip
    (loras / "sks.json").write_text(json.dumps(mine), encoding="utf-8")
    before = tree(loras)
    keep(run, loras, weight=0.8)
    now = json.loads((loras / "sks.json").read_text(encoding="utf-8"))
    assert now["description"] == "für Mia" and now["preferred weight"] == 0.6
    assert now["my key"] == [1, 2]
    assert now["activation text"] == "sks" and now["sd version"] == "SD1"
    api.undo(run.parent)
    assert tree(loras) == before


def test_what_keep_wrote_itself_is_written_anew_and_what_a_person_changed_since_is_not(run, loras):
    keep(run, loras, weight=0.8, preview=str(cell(run.parent / "c.png")))
    fields = json.loads((loras / "sks.json").read_text())
    (loras / "sks.json").write_text(json.dumps({**fields, "description": "mine"}))
    later = lora(run.parent, "sks-000010", seed=9)
    other = cell(run.parent / "d.png", (96, 64))
    result = keep(later, loras, weight=0.6, replace=True, preview=str(other))
    now = json.loads((loras / "sks.json").read_text())
    assert (now["description"], now["preferred weight"]) == ("mine", 0.6)
    assert hashlib.sha256(later.read_bytes()).hexdigest() in now["notes"]
    assert result.preview == loras / "sks.preview.png"
    with Image.open(loras / "sks.preview.png") as image:
        assert image.size == (96, 64)


def test_a_preview_of_a_person_is_kept_and_one_that_wins_is_named(run, loras):
    theirs = cell(loras / "sks.preview.png", text="theirs").read_bytes()
    cell(loras / "sks.png", text="theirs too")
    result = keep(run, loras, preview=str(cell(run.parent / "c.png")))
    assert (loras / "sks.preview.png").read_bytes() == theirs
    assert a1111(loras, "sks").preview == loras / "sks.png"
    notes = " ".join(result.notes)
    assert "sks.png is there" in notes and "sks.preview.png is kept" in notes


@pytest.mark.parametrize("text", ["", "[1]", "{", '"a"', "\udcff", "[" * 5000])
def test_a_json_file_that_is_no_object_stays_as_it_is(text, run, loras):
    (loras / "sks.json").write_text(text, errors="surrogateescape")
    before = (loras / "sks.json").read_bytes()
    result = keep(run, loras)
    assert (loras / "sks.json").read_bytes() == before
    assert any("not a JSON object" in note for note in result.notes)


def test_the_first_preview_image_of_the_epoch_is_the_default(run, loras):
    sample = cell(run.parent / "sample" / "sks-000008-00.png")
    sample.write_bytes(pixels.encode(Image.new("RGB", (64, 64), "red"), "PNG"))
    cell(run.parent / "sample" / "sks-000008-01.png")
    record = {"step": 960, "epoch": 8, "file": sample.name, "place": 0, "text": "sks, smile",
              "negative": "blurry", "width": 64, "height": 64, "seed": 7, "guidance": 4.0,
              "steps": 12, "sampler": "euler_a"}  # fmt: skip
    (sample.parent / "sks.jsonl").write_text(json.dumps(record) + "\n")
    result = keep(run, loras)
    assert result.preview is not None
    text = pixels.png_text(result.preview)["parameters"]
    assert text.startswith("sks, smile <lora:sks:1>\nNegative prompt: blurry\nSteps: 12, ")
    assert "Sampler: Euler a" in text and "Seed: 7" in text


def test_an_image_without_parameters_and_without_a_record_is_a_preview_all_the_same(run, loras):
    image = run.parent / "photo.jpg"
    Image.new("RGB", (64, 64)).save(image)
    result = keep(run, loras, preview=str(image))
    assert result.preview is not None and pixels.png_text(result.preview) == {}


def test_nothing_else_is_written_beside_the_copy(run, loras):
    (run.parent / "sks-000008.txt").write_text("a caption")
    keep(run, loras, name="kitsu")
    assert set(tree(loras)) == {"kitsu.safetensors", "kitsu.json"}


ROOTS = {
    "a1111": (("launch.py", "modules/"), "models/Lora", "A1111"),
    "a1111 portable": (("webui/launch.py", "webui/modules/"), "webui/models/Lora", "A1111"),
    "sd.next in lower case": (("launch.py", "modules/", "models/lora/"), "models/lora", "A1111"),
    "comfyui": (("main.py", "comfy/"), "models/loras", "ComfyUI"),
    "comfyui portable": (("ComfyUI/main.py", "ComfyUI/comfy/"), "ComfyUI/models/loras", "ComfyUI"),
    "stability": (("Data/Models/", "Data/Packages/"), "Data/Models/Lora", "Stability Matrix"),
    "swarmui": (("SwarmUI.sln", "Models/"), "Models/Lora", "SwarmUI"),
    "any other folder": (("launch.py",), ".", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", ROOTS)
def test_the_folder_of_a_web_interface_is_recognised(name, run, loras):
    files, expected, program = ROOTS[name]
    for file in files:
        path = loras / file
        (path if file.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not file.endswith("/"):
            path.touch()
    before = tree(loras)
    result = keep(run, loras)
    assert result.file == loras / expected / "sks.safetensors"
    assert result.program == program
    # A folder of LoRAs that is named itself, or one below it, is of the same program.
    assert keep(run, result.file.parent / "mine").program == program
    api.undo(run.parent)
    api.undo(run.parent)
    assert tree(loras) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:\n  base_path: ../shared\n  loras: lora\n", "../shared/lora"),
        ("a:\n  base_path: ../shared\n  loras: |\n    none\n    lora\n", "../shared/lora"),
        ("a:\n  base_path: {absolute}\n  loras: lora\n", "../shared/lora"),
        ("a:\n  base_path: ../shared\n  loras: none\n", "models/loras"),
        ("a:\n  loras: [1]\nb: 3\n", "models/loras"),
        ("a: [\n", "models/loras"),
        ("&a [*a]", "models/loras"),
    ],
)  # fmt: skip
def test_comfyui_reads_folders_of_its_own_file(text, expected, run, loras):
    (loras / "comfy").mkdir()
    (loras / "main.py").touch()
    shared = loras.parent / "shared"
    (shared / "lora").mkdir(parents=True)
    (loras / "extra_model_paths.yaml").write_text(text.replace("{absolute}", str(shared)))
    assert keep(run, loras).file.resolve() == (loras / expected / "sks.safetensors").resolve()


def test_of_two_folders_comfyui_reads_its_own_first_unless_the_other_is_the_default(run, loras):
    (loras / "comfy").mkdir()
    (loras / "main.py").touch()
    (loras / "models" / "loras").mkdir(parents=True)
    (loras / "more").mkdir()
    config = loras / "extra_model_paths.yaml"
    config.write_text("a:\n  loras: more\n")
    assert keep(run, loras).file.parent == loras / "models" / "loras"
    config.write_text("a:\n  is_default: true\n  loras: more\n")
    assert keep(run, loras).file.parent == loras / "more"


@pytest.mark.parametrize("name", ["../x", "a/b", "con", "a:b", "x" * 250, ".", "tab\there", "a?"])
def test_a_name_that_is_not_valid_is_refused(name, run, loras):
    with pytest.raises(ConfigError, match="the name"):
        keep(run, loras, name=name)
    assert tree(loras) == {}


def test_what_is_not_a_regular_file_is_not_replaced(run, loras):
    (loras / "sks.safetensors").mkdir()
    with pytest.raises(InputError, match="regular file"):
        keep(run, loras, replace=True)


def test_the_numbers_of_copies_end(run, loras, monkeypatch):
    monkeypatch.setattr("datasetkit.verbs.keep._MOST_NAMES", 2)
    for name in ("sks", "sks-2"):
        lora(loras, name, seed=5)
    with pytest.raises(InputError, match="files of this name"):
        keep(run, loras)


def test_without_a_folder_nothing_is_copied(run):
    with pytest.raises(ConfigError) as raised:
        api.keep(run, api.KeepOptions())
    assert "--to DIR" in raised.value.hint


def test_what_is_not_a_lora_or_not_an_image_is_refused(run, loras):
    text = run.parent / "a.safetensors"
    text.write_text("no")
    with pytest.raises(ModelFileError):
        keep(text, loras)
    with pytest.raises(InputError):
        keep(run, loras, preview=str(text))
    file = loras / "file"
    file.touch()
    with pytest.raises(InputError, match="is not a folder"):
        keep(run, file)
    file.unlink()
    assert tree(loras) == {}


def test_a_dry_run_changes_nothing_and_says_the_same(run, loras):
    before = tree(loras.parent)
    options = api.KeepOptions(to=str(loras / "new"))
    dry = api.keep(run, options, api.RunContext(dry_run=True))
    assert tree(loras.parent) == before
    real = api.keep(run, options)
    assert (dry.file, dry.state, set(dry.changed)) == (real.file, real.state, set(real.changed))


def test_a_copy_that_the_disk_changed_is_reported(run, loras, monkeypatch):
    from datasetkit.core.reflink import copy_file
    from datasetkit.project import file_ops

    def damaged(source, target):
        copy_file(source, target)
        if target.suffix == ".tmp":
            data = bytearray(target.read_bytes())
            data[-1] ^= 1
            target.write_bytes(data)

    monkeypatch.setattr(file_ops, "copy_file", damaged)
    with pytest.raises(StorageError, match="does not hold"):
        keep(run, loras)


def test_undo_and_replace_work_where_the_web_interface_is_on_another_disk(run, loras, monkeypatch):
    """A file cannot be renamed to another disk: the system refuses with EXDEV."""
    rename = os.rename

    def refuse(source, target, **more):
        if Path(source).is_relative_to(loras) != Path(target).is_relative_to(loras):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target, **more)

    monkeypatch.setattr(os, "rename", refuse)
    lora(loras, "sks", seed=5)
    before = tree(loras)
    keep(run, loras, replace=True)
    assert (loras / "sks.safetensors").read_bytes() == run.read_bytes()
    api.undo(run.parent)
    assert tree(loras) == before


def test_a_move_to_another_disk_that_was_cut_off_is_completed(tmp_path, monkeypatch):
    """The copy was complete, and the original was not removed yet."""
    from datasetkit.project.file_ops import JournalOperation, move

    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one disk only")
    source, goal = tmp_path / "a", other / f"dsk-test-{os.getpid()}"
    source.write_bytes(b"data")
    shutil.copy2(source, goal)
    try:
        move(JournalOperation("move", source, goal))
        assert not source.exists() and goal.read_bytes() == b"data"
    finally:
        goal.unlink()


def test_the_command_says_what_to_paste_and_how_to_undo(dsk, here):
    file = lora(here / "output")
    ended = dsk("keep", file, "--to", "loras", "--weight", "0.8")
    assert ended.code == 0, ended.err
    assert "copied loras/sks.safetensors" in ended.out and "to undo: dsk undo" in ended.out
    assert "prompt in A1111: <lora:sks:0.8> sks" in ended.out
    assert "Stable Diffusion 1" in ended.out
    again = dsk("keep", file, "--to", "loras", "--weight", "0.8", "--json")
    assert again.result["state"] == "present"
