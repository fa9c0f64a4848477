"""The built wheel in clean environments, by pip, uv and pipx: the quickstart runs, and the hint for
a missing extra, typed as it stands, installs it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    return next(iter(out.glob("*.whl")))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for uv and pipx, with the versions that the other tests run with."""
    for name, folder in {
        "UV_TOOL_DIR": "uv-tools", "UV_TOOL_BIN_DIR": "bin", "PIPX_HOME": "pipx",
        "PIPX_BIN_DIR": "bin", "PIPX_MAN_DIR": "man", "HF_HOME": "hub",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(tmp_path / folder))
    for name in ("UV_CONSTRAINT", "PIP_CONSTRAINT"):
        monkeypatch.setenv(name, str(ROOT / "constraints.txt"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv(
        "PATH", f"{tmp_path / 'bin'}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}"
    )
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def by_pip(wheel: Path, home: Path) -> Path:
    run(sys.executable, "-m", "venv", str(home / "venv"), cwd=home)
    bin_folder = home / "venv" / ("Scripts" if os.name == "nt" else "bin")
    os.environ["PATH"] = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"  # the fixture restores it
    run(str(bin_folder / "pip"), "install", f"{wheel}[cpu]", cwd=home)
    return bin_folder / "dsk"


def by_uv(wheel: Path, home: Path) -> Path:
    run("uv", "tool", "install", "--python", sys.executable, f"datasetkit[cpu] @ {wheel}", cwd=home)
    return home / "bin" / "dsk"


def by_pipx(wheel: Path, home: Path) -> Path:
    run("pipx", "install", "--python", sys.executable, f"{wheel}[cpu]", cwd=home)
    return home / "bin" / "dsk"


@pytest.mark.parametrize("install", [by_pip, by_uv, by_pipx])
def test_the_quickstart_runs_and_the_hint_for_an_extra_installs_it(install, wheel, home):
    dsk = str(install(wheel, home))
    project = home / "project"
    shutil.copytree(
        QUICKSTART, project, ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__")
    )
    run(dsk, "run", "dsk.toml", cwd=project)
    assert len(list((project / "dataset" / "train" / "8_sylvie").glob("*.txt"))) == 24

    def web() -> dict[str, str]:
        printed = json.loads(run(dsk, "doctor", "--json", cwd=project))
        findings = {f["what"]: f for f in printed["result"]["findings"]}
        web: dict[str, str] = findings["extra web"]
        return web

    missing = web()
    assert missing["state"] == "note" and missing["fix"]
    subprocess.run(missing["fix"], shell=True, check=True, cwd=home, capture_output=True)
    assert web()["state"] == "ok"


def test_a_release_is_built_and_checked(tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{ROOT}", str(clone)], check=True)
    printed = run(sys.executable, "-m", "datasetkit.tools.release", cwd=clone)
    assert printed.count("PASSED") == 2 and "nothing was uploaded" in printed
    assert (clone / "dist" / "NOTES.md").read_text(encoding="utf-8").startswith("### ")
