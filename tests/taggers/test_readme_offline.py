"""The lines of the README for a mirror and for a machine without a connection work as they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from taggers.models import LABEL_FILE, MODEL_FILE
from tests import fake_hub
from tests.cli.conftest import images
from tests.taggers.tiny_models import V3_COUNT, V3_LABELS, model_bytes

README = Path(__file__).parents[2] / "README.md"


def lines() -> tuple[str, str]:
    """Return the lines for the machine with a connection and for the one without."""
    text = README.read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "HF_ENDPOINT" in b)
    connected, _, alone = block.partition("\n\n")
    return connected, alone


def follow(commands: str, home: Path, folder: Path) -> str:
    """Run lines in bash, as a user with this home folder."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_"))}
    variables |= {"HOME": str(home), "OMP_NUM_THREADS": "1"}
    dsk = f'dsk() {{ {sys.executable} -m datasetkit "$@"; }}\nset -e\n'
    ended = subprocess.run(
        ["bash", "-c", dsk + commands], cwd=folder, env=variables, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="the lines are for a shell")
def test_the_lines_of_the_readme_work(tmp_path, monkeypatch):
    for machine in ("connected", "alone"):
        (tmp_path / machine).mkdir()
    images(tmp_path / "imgs", 2)
    connected, alone = lines()
    with fake_hub.serve(tmp_path / "unused", monkeypatch) as hub:
        hub.files[MODEL_FILE] = model_bytes(V3_COUNT)
        hub.files[LABEL_FILE] = V3_LABELS.read_bytes()
        mirror = connected.replace("https://MIRROR", constants.ENDPOINT)
        follow(mirror, tmp_path / "connected", tmp_path)
        assert len(hub.requests) == 2
    assert "wrote 2 captions" in follow(alone, tmp_path / "alone", tmp_path)
    assert len(list((tmp_path / "imgs").glob("*.txt"))) == 2
