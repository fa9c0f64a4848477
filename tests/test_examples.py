"""The examples do what their pages say: each dsk.toml runs from end to end, and so does the
notebook.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from datasetkit.cli.main import run as dsk_in_process
from datasetkit.core.errors import Exit
from tests.extras import require_rembg
from tests.test_pages import ROOT, matches, plain, printed_by, shown

pytestmark = pytest.mark.long

EXAMPLES = Path(__file__).parents[1] / "examples"
QUICKSTART = EXAMPLES / "quickstart"
NOTEBOOK = EXAMPLES / "notebook.ipynb"
HANDFUL = 2


def dsk(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # Without a hub, and without the models that this machine may hold: the examples work anywhere.
    env = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(cwd.parent / "hub"),
        "PYTHONWARNINGS": "error",
    }
    return subprocess.run(
        [sys.executable, "-m", "datasetkit", *arguments],
        cwd=cwd, env=env, capture_output=True, encoding="utf-8", timeout=120,
    )  # fmt: skip


@pytest.fixture
def run_recipe(monkeypatch, tmp_path, capsys):
    """Run a project's dsk.toml in this process, and return its steps."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def run(project: Path) -> list[dict]:
        monkeypatch.chdir(project)
        assert dsk_in_process(["run", "dsk.toml", "--json"]) == Exit.DONE
        steps: list[dict] = json.loads(capsys.readouterr().out)["result"]["steps"]
        return steps

    return run


def images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".txt")


def captions(folder: Path) -> list[str]:
    """The captions of a folder's images, each of which must have one."""
    return [path.with_suffix(".txt").read_text(encoding="utf-8").strip() for path in images(folder)]


def recipe(name: str, project: Path, folders: tuple[str, ...]) -> dict:
    """Lay an example's dsk.toml beside a handful of the quickstart's images in each of its
    folders.
    """
    project.mkdir()
    shutil.copy(EXAMPLES / name / "dsk.toml", project)
    some = sorted((QUICKSTART / "images").glob("*.jpg"))[:HANDFUL]
    for folder in folders:
        (project / folder).mkdir()
        for path in some:
            shutil.copy(path, project / folder)
    return tomllib.loads((project / "dsk.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The quickstart after its run, and what that printed."""
    project = tmp_path_factory.mktemp("quickstart") / "project"
    shutil.copytree(
        QUICKSTART, project, ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__")
    )
    done = dsk("run", "dsk.toml", cwd=project)
    assert done.returncode == 0, done.stderr
    return project, done.stdout


def test_quickstart_lays_out_every_image_with_a_caption_that_opens_with_the_trigger(quickstart):
    project, _ = quickstart
    (folder,) = (project / "dataset" / "train").iterdir()
    assert folder.name == "8_sylvie"
    assert len(images(folder)) == len(list((QUICKSTART / "images").iterdir()))
    assert all(caption.split(", ")[0] == "sylvie" for caption in captions(folder))


def test_quickstart_makes_a_balanced_reg_set(quickstart):
    project, _ = quickstart
    (reg,) = (project / "dataset" / "reg").iterdir()
    (train,) = (project / "dataset" / "train").iterdir()
    repeats = int(reg.name.removesuffix("_1girl"))
    assert len(images(reg)) * repeats <= len(images(train)) * 8


def test_quickstart_exports_what_it_planned(quickstart):
    project, _ = quickstart
    exported = tomllib.loads((project / "dataset" / "dataset.toml").read_text(encoding="utf-8"))
    subsets = [subset for part in exported["datasets"] for subset in part["subsets"]]
    assert [(project / "dataset" / subset["image_dir"]).is_dir() for subset in subsets] == [
        True,
        True,
    ]
    assert subsets[0]["num_repeats"] == 8
    assert exported["general"]["keep_tokens"] == 1
    assert {path.name for path in (project / "report").iterdir()} == {
        "tags.csv",
        "pairs.csv",
        "tags.png",
    }


def test_the_pages_of_the_whole_run_show_what_it_prints(quickstart, monkeypatch, capsys):
    project, printed = quickstart
    [page] = [
        page
        for command, page in shown(ROOT / "docs" / "commands" / "run.md")
        if command == ["dsk", "run", "dsk.toml"]
    ]
    assert matches(plain(page, "/home/me/run"), plain(printed, str(project)))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(project)
    plan = plain(printed_by(["dsk", "plan-repeats", "dataset"], capsys))
    assert plan in plain(readme)
    counted = dict(re.findall(r"^  ([\w/-]+) +(\d+) files$", readme, re.MULTILINE))
    made = {
        folder: str(sum(path.is_file() for path in (project / folder).iterdir()))
        for folder in counted
    }
    assert len(counted) > 5 and counted == made
    for name, caption in re.findall(r"^  (dataset/train/\S+\.txt): (.*)$", readme, re.MULTILINE):
        assert (project / name).read_text(encoding="utf-8") == caption + "\n"


def test_a_second_run_of_the_quickstart_changes_nothing(quickstart):
    project, _ = quickstart
    before = {
        path: path.stat().st_mtime_ns for path in (project / "dataset").rglob("*") if path.is_file()
    }
    done = dsk("run", "dsk.toml", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    steps = {step["step"]: step["result"] for step in json.loads(done.stdout)["result"]["steps"]}
    assert steps["layout"]["concepts"] == [["sylvie", 8]]
    assert {
        path: path.stat().st_mtime_ns for path in (project / "dataset").rglob("*") if path.is_file()
    } == before


def test_quickstart_can_cut_sylvie_out(tmp_path, run_recipe):
    require_rembg()
    project = tmp_path / "project"
    recipe("quickstart", project, ("images", "reg-images"))
    path = project / "dsk.toml"
    steps = '"resize", "cutout", "tag"'
    path.write_text(
        path.read_text(encoding="utf-8").replace('"resize", "tag"', steps), encoding="utf-8"
    )
    run_recipe(project)
    found = [caption.split(", ") for caption in captions(project / "work" / "sylvie")]
    assert len(found) == HANDFUL
    assert all("white background" in tags and "simple background" in tags for tags in found)
    assert len(list(project.glob("dataset/train/*_sylvie/masks/*.png"))) == HANDFUL


def test_face_recipe_keeps_the_face_out_of_captions_and_exports_its_numbers(tmp_path, run_recipe):
    project = tmp_path / "project"
    config = recipe("face", project, ("photos", "women"))
    run_recipe(project)
    crops = images(project / "work" / "MikamiYua")
    assert len(crops) == HANDFUL and (project / "faces.png").is_file()
    for path in crops:
        with Image.open(path) as crop:
            assert crop.width == crop.height <= 512
    assert sorted(path.name for path in (project / "dataset").glob("*/*")) == [
        "20_1girl",
        "20_MikamiYua",
    ]
    assert all(
        caption.startswith("MikamiYua")
        for caption in captions(project / "dataset/train/20_MikamiYua")
    )
    exported = tomllib.loads((project / "dataset" / "config.toml").read_text(encoding="utf-8"))
    flat = {key: value for table in exported.values() for key, value in table.items()}
    for key in (
        "network_dim",
        "network_alpha",
        "lr_scheduler_num_cycles",
        "lr_warmup_steps",
        "save_last_n_epochs",
    ):
        assert flat[key] == config["train"][key]


def test_clothes_recipe_makes_the_steps_that_its_page_names(tmp_path, run_recipe):
    require_rembg()
    project = tmp_path / "project"
    recipe("clothes", project, ("images",))
    steps = run_recipe(project)
    assert all(
        caption.startswith("mytag") for caption in captions(project / "dataset/train/6_mycloths")
    )
    masks = list((project / "dataset/train/6_mycloths/masks").iterdir())
    assert len(masks) == HANDFUL and (project / "faces.png").is_file()
    plan = next(step for step in steps if step["step"] == "layout")["result"]["plan"]
    # The page says 30 images x 6 x 10 epochs = 1,800 steps; with a batch of 1 they go by the
    # image.
    assert plan["train"]["steps"] == HANDFUL * 6 * 10


def test_every_recipe_opens_with_the_command_that_runs_it():
    for path in EXAMPLES.glob("*/dsk.toml"):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        command = first.removeprefix("# ")
        assert command in ("dsk run dsk.toml", "dsk train .") and first != command, path
        assert f"\n{command}" in (path.parent / "README.md").read_text(encoding="utf-8"), path


def run_notebook(notebook, folder: Path) -> tuple[str, list[dict]]:
    """Run every cell in a fresh kernel; return what was printed, and the outputs that show
    something.
    """
    from nbclient import NotebookClient

    client = NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    asyncio.run(client.async_execute())
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    # Joined: on a busy machine one line may arrive in several pieces.
    return "".join(output.text for output in outputs if "text" in output), outputs


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    import nbformat

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return nbformat.read(NOTEBOOK, as_version=4)


# The machinery of the notebook client warns about its own future; what the notebook does is the
# kernel's business.
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_notebook_trains_on_the_tiny_base_in_a_fresh_kernel(notebook):
    printed, outputs = run_notebook(notebook, EXAMPLES)
    assert "8 repeats, 960 steps" in printed and "24 steps of AdamW" in printed
    # Progress of a notebook is text: no bar is drawn with control characters.
    assert "\x1b" not in printed and "\r" not in printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2


FAKE_COLAB = {
    "__init__.py": "",
    "files.py": """
from pathlib import Path
def upload():
    return {path.name: path.read_bytes() for path in Path("quickstart/images").iterdir()}
def download(path):
    assert Path(path).stat().st_size > 1000
    print("downloaded", Path(path).suffix)
""",
    "drive.py": "",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_notebook_does_in_colab_what_it_says(notebook, tmp_path, monkeypatch):
    """Colab's modules are replaced, and the cell that installs; the base is the tiny one."""
    package = tmp_path / "modules" / "google" / "colab"
    package.mkdir(parents=True)
    for name, text in FAKE_COLAB.items():
        (package / name).write_text(text, encoding="utf-8")
    cells = {cell.id: cell for cell in notebook.cells}
    assert {name for name in cells if name.startswith("colab-")} == {
        "colab-install", "colab-upload", "colab-download",
    }  # fmt: skip
    cells["colab-install"].source = (
        f"import sys\nsys.path.insert(0, {str(package.parents[1])!r})\n"
        "import google\ngoogle.__path__ = [*google.__path__, sys.path[0] + '/google']\n"
        "import google.colab\nIN_COLAB = 'google.colab' in sys.modules\n"
    )
    cells["settings"].source += (
        "\nassert BASE.startswith('stable-diffusion') and RESOLUTION == 512\n"
        "BASE, STEPS, RESOLUTION, TAGGER = 'tiny', 24, 64, 'basic'\n"
    )
    printed, _ = run_notebook(notebook, EXAMPLES)
    assert "downloaded .safetensors" in printed and "downloaded .zip" in printed


def test_what_the_notebook_installs_is_stubbed_by_name_only():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        source = "".join(cell["source"])
        is_colab = cell["id"].startswith("colab-")
        assert is_colab == ("google.colab import" in source or "%pip" in source or (
            "files.download" in source)), cell["id"]  # fmt: skip
        assert is_colab == (cell["metadata"].get("tags") == ["colab"]), cell["id"]


def test_notebook_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_realistic_captions_photos_in_sentences_as_its_page_shows(tmp_path, monkeypatch, capsys):
    from tests.taggers.test_florence2 import TINY

    project = tmp_path / "realistic"
    (project / "photos").mkdir(parents=True)
    for name in ("astronaut.png", "chelsea.png"):
        shutil.copy(EXAMPLES / "assets" / "photos" / name, project / "photos")
    text = (EXAMPLES / "realistic" / "dsk.toml").read_text(encoding="utf-8")
    placeholder = f'[caption]\nmodel_dir = "{TINY}"\nbeams = 1\nmax_tokens = 12\n'
    (project / "dsk.toml").write_text(text.replace("[caption]\n", placeholder), encoding="utf-8")
    monkeypatch.chdir(project)
    (command, run_page), (shown_file, caption) = shown(EXAMPLES / "realistic" / "README.md")
    printed = printed_by(command, capsys)
    assert matches(plain(run_page, "/home/me/realistic"), plain(printed, str(project)))
    assert Path(shown_file[1]).read_text(encoding="utf-8") == caption
    for folder in ("work/ohwx", "dataset/train/100_ohwx"):
        assert all(text.startswith("ohwx, ") for text in captions(project / folder))
    # A second run asks the model nothing, and changes nothing.
    steps = json.loads(printed_json(capsys))["result"]["steps"]
    described = next(step["result"] for step in steps if step["step"] == "caption")
    assert described["described"] == 0 and described["changes"] == []


def printed_json(capsys) -> str:
    capsys.readouterr()
    assert dsk_in_process(["run", "dsk.toml", "--json"]) == Exit.DONE
    printed: str = capsys.readouterr().out
    return printed
