"""From dsk to another trainer and back: `dsk export --format TOOL`, then `dsk import FILE`."""

import json
import tomllib

import pytest

from datasetkit.dataset.tool_datasets import FILES
from tests.cli.conftest import images, write_image


@pytest.fixture
def laid_out(here):
    for name, number in (("train/4_sks", 3), ("train/2_dog", 2), ("reg/5_1girl", 2)):
        for path in images(here / "set" / name, number):
            path.with_suffix(".txt").write_text(f"{name.partition('_')[2]}, smile\n")
    (here / "set" / "dsk.toml").write_text("[train]\nresolution = 768\nshuffle_caption = true\n")
    return here / "set"


@pytest.mark.parametrize("tool", list(FILES))
def test_a_dataset_comes_back_with_its_folders_and_repeats(tool, laid_out, here, dsk, monkeypatch):
    assert dsk("export", "set", "--format", tool).code == 0
    file = laid_out / FILES[tool]
    before = {p: p.read_bytes() for p in laid_out.rglob("*") if p.is_file()}
    project = here / "again"
    project.mkdir()
    monkeypatch.chdir(project)
    dry = dsk("import", str(file), "--dry-run")
    assert dry.code == 0 and list(project.iterdir()) == [] and "would write dsk.toml" in dry.out
    ended = dsk("import", str(file))
    assert ended.code == 0, ended.err
    assert "next: dsk run dsk.toml" in ended.out
    config = tomllib.loads((project / "dsk.toml").read_text(encoding="utf-8"))
    assert [(c["name"], c["repeats"]) for c in config["concept"]] == [("dog", 2), ("sks", 4)]
    if tool != "diffusion-pipe":
        assert config["reg"] | {"folder": ""} == {"folder": "", "class_name": "1girl", "repeats": 5}
    if tool != "onetrainer":
        assert config["train"]["resolution"] == 768
    assert config["train"]["shuffle_caption"] is True
    assert dsk("run", "dsk.toml").code == 0
    made = {p.name for p in (project / "dataset").glob("*/*") if p.is_dir()}
    assert made == {"2_dog", "4_sks"} | ({"5_1girl"} if tool != "diffusion-pipe" else set())
    assert {p: p.read_bytes() for p in before} == before
    assert dsk("import", str(file)).code == 2  # the dsk.toml is kept
    assert dsk("undo").code == 0 and dsk("undo").code == 0


def test_a_reg_set_that_diffusion_pipe_does_not_have_is_named(laid_out, dsk):
    ended = dsk("export", "set", "--format", "diffusion-pipe")
    assert ended.code == 0 and "no regularisation sets" in ended.err
    text = (laid_out / FILES["diffusion-pipe"]).read_text(encoding="utf-8")
    assert "1girl" not in text


def test_folders_count_from_the_file_and_notes_name_the_next_step(here, dsk):
    images(here / "tool" / "data" / "sks", 3)
    images(here / "tool" / "data" / "sks" / "more", 1)
    (here / "tool" / "data" / "none").mkdir()
    concepts = [
        {
            "path": "data\\sks",
            "name": "sks",
            "balancing": 1.5,
            "text": {"prompt_source": "filename"},
        },
        {"path": "data/none"},
    ]
    (here / "tool" / "concepts.json").write_text(json.dumps(concepts))
    ended = dsk("import", "tool/concepts.json")
    assert ended.code == 0, ended.err
    for part in ("--from filename", "has images in subfolders", "has no images and is left out",
                 "1.5 repeats there are 2 here"):  # fmt: skip
        assert part in ended.err, part
    config = tomllib.loads((here / "dsk.toml").read_text(encoding="utf-8"))
    assert [c["folder"] for c in config["concept"]] == ["tool/data/sks"]
    assert dsk("import", "tool/data/sks", "--from", "filename").code == 0
    assert (here / "tool/data/sks/a1.txt").read_text() == "a1\n"


@pytest.mark.parametrize(
    "text, message",
    [
        ('[{"path": "gone"}]', "names the folder gone, which does not exist here"),
        ('[{"path": ".", "enabled": false}]', "names no folder with images"),
        ("[general]\n", "is not a dataset of OneTrainer, ai-toolkit or diffusion-pipe"),
    ],
)
def test_a_file_that_cannot_be_taken_leaves_no_trace(here, dsk, text, message):
    (here / "file").write_text(text)
    ended = dsk("import", "file")
    assert ended.code == 2 and message in ended.err and "hint: " in ended.err
    assert [p.name for p in here.iterdir()] == ["file"]


def test_options_for_folders_are_refused_for_a_file(here, dsk):
    (here / "file").write_text("[]")
    ended = dsk("import", "file", "--from", "hydrus")
    assert ended.code == 2 and "--from is for a folder of images" in ended.err


def test_captions_of_booru_dataset_tag_manager_and_taggui_are_read(here, dsk):
    for n, text in enumerate((r"saber \(fate\), long_hair", "saber (fate), long hair")):
        write_image(here / "bdtm" / f"{n}.png", n).with_suffix(".txt").write_text(text)
    ended = dsk("import", "bdtm", "--from", "booru-dataset-tag-manager")
    assert ended.code == 0, ended.err
    for n in (0, 1):
        assert (here / "bdtm" / f"{n}.txt").read_text().strip() == "saber (fate), long hair"
    text = "sks, long hair, smile"
    write_image(here / "gui" / "0.png", 9).with_suffix(".txt").write_text(text)
    ended = dsk("import", "gui", "--from", "taggui")
    assert ended.code == 0 and (here / "gui" / "0.txt").read_text() == text  # nothing to change
    assert dsk("rules", "gui", "--exclude", "smile").code == 0
    assert (here / "gui" / "0.txt").read_text().strip() == "sks, long hair"


def test_captions_json_of_diffusion_pipe_becomes_captions(here, dsk):
    for n in range(3):
        write_image(here / "imgs" / f"{n}.png", n)
    captions = {"0.png": ["A woman, smiling.", "another"], "1.png": "snake_case stays"}
    (here / "imgs" / "captions.json").write_text(json.dumps(captions))
    ended = dsk("import", "imgs", "--from", "captions-json")
    assert ended.code == 0, ended.err
    assert (here / "imgs" / "0.txt").read_text() == "A woman, smiling.\n"
    assert (here / "imgs" / "1.txt").read_text() == "snake_case stays\n"
    assert not (here / "imgs" / "2.txt").exists()
    (here / "imgs" / "captions.json").write_text('{"0.png": 3}')
    assert dsk("import", "imgs", "--from", "captions-json").code == 3
    (here / "imgs" / "captions.json").unlink()
    assert dsk("import", "imgs", "--from", "captions-json").code == 2
