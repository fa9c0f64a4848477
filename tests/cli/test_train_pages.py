"""What the pages about training show of the quickstart is what its commands print, and a large plan
is quick.
"""

import json
import subprocess
import sys

import pytest

from datasetkit.core.errors import Exit
from tests.test_pages import ROOT, matches, plain, printed_by, project, shown
from tests.trainer import tiny
from trainer import precision

__all__ = ["project"]
PAGES = ["docs/train.md", "docs/commands/train.md", "docs/from-sd-scripts.md"]


@pytest.fixture
def bf16(monkeypatch):
    """A CPU that computes bf16, as that of the machine that the pages show."""
    monkeypatch.setattr(precision, "_cpu_flags", lambda: {"avx512_bf16"})
    precision.of_device.cache_clear()
    yield
    precision.of_device.cache_clear()


@pytest.mark.long
def test_pages_about_training_show_what_is_printed(project, capsys, bf16):
    from datasetkit.cli.main import run

    assert run(["run", "dsk.toml"]) == Exit.DONE
    for page in PAGES:
        commands = list(shown(ROOT / page))
        assert commands, page
        for command, text in commands:
            printed = plain(printed_by(command, capsys))
            assert matches(plain(text), printed), f"{page}: {' '.join(command)}\n{printed}"


@pytest.mark.long
@pytest.mark.parametrize("images", [1000])
def test_plan_of_a_large_set_is_quick_without_torch(here, images):
    """Of processor time: machines under test are busy. It starts Python, reads 1,000 headers and
    hashes the files.
    """
    concept = tiny.save_images(here / "ds" / "train" / "2_sks", [(320, 256), (256, 320)])
    for number in range(3, images + 1):
        for suffix in (".png", ".txt"):
            (concept / f"{number}{suffix}").hardlink_to(concept / f"{2 - number % 2}{suffix}")
    code = (
        "import sys, time; from datasetkit.cli.main import run; code = run(sys.argv[1:]); "
        "assert not {'torch', 'diffusers', 'transformers', 'peft', 'pandas'} & set(sys.modules); "
        "print(time.process_time(), file=sys.stderr); sys.exit(code)"
    )
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "train",
            "ds",
            "--dry-run",
            "--json",
            "--set",
            "pretrained_model_name_or_path=tiny",
        ],
        cwd=here,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    plan = json.loads(ended.stdout)["result"]["plan"]
    assert sum(use["images"] for use in plan["buckets"]) == images
    assert plan["captions"]["over"] == {"75": 0, "150": 0, "225": 0}
    assert plan["memory_bytes"] == sum(s["bytes"] for s in plan["memory"]["shares"])
    assert float(ended.stderr.split()[-1]) < 2
