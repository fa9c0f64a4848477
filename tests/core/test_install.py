"""The commands that hints name: each fits how dsk was installed."""

import importlib.metadata
from pathlib import Path

import pytest

from datasetkit.core import install

REMOTE = f"datasetkit[train] @ {install.REPOSITORY}"


@pytest.mark.parametrize("extras", [(), ("train",), ("cutout", "cpu")])
def test_what_is_published_names_the_repository_until_there_is_a_release(extras, monkeypatch):
    names = f"datasetkit[{','.join(extras)}]" if extras else "datasetkit"
    monkeypatch.setattr(install, "ON_PYPI", False)
    assert install.published(*extras) == f"{names} @ {install.REPOSITORY}"
    monkeypatch.setattr(install, "ON_PYPI", True)
    assert install.published(*extras) == names


def test_a_clone_a_wheel_and_a_repository_are_installed_from_where_they_came(tmp_path, monkeypatch):
    monkeypatch.setattr(install, "ON_PYPI", False)
    clone = tmp_path / "my clone"
    clone.mkdir()
    wheel = tmp_path / "datasetkit-0.1.0-py3-none-any.whl"
    wheel.touch()
    editable = {"url": clone.as_uri(), "dir_info": {"editable": True}}
    git = {
        "url": "https://example.org/d",
        "vcs_info": {"vcs": "git", "commit_id": "abc"},
    }
    expected = {
        f'-e "{clone}[train]"': editable,
        f'"datasetkit[train] @ {clone.as_uri()}"': {"url": clone.as_uri(), "dir_info": {}},
        f'"datasetkit[train] @ {wheel.as_uri()}"': {"url": wheel.as_uri(), "archive_info": {}},
        '"datasetkit[train] @ git+https://example.org/d@abc"': git,
        f'"{REMOTE}"': None,
    }
    for line, origin in expected.items():
        assert install.requirement(["train"], origin) == line


def test_a_clone_or_a_wheel_that_is_gone_is_not_named(tmp_path):
    for origin in (
        {"url": (tmp_path / "clone").as_uri(), "dir_info": {"editable": True}},
        {"url": (tmp_path / "a.whl").as_uri(), "archive_info": {}},
    ):
        assert install.requirement(["train"], origin) == f'"{install.published("train")}"'


def test_each_kind_of_environment_has_its_own_command(tmp_path, monkeypatch):
    plain, uv, pipx = (tmp_path / name for name in ("plain", "uv", "datasetkit"))
    for folder, mark in (
        (plain, "pyvenv.cfg"),
        (uv, "uv-receipt.toml"),
        (pipx, "pipx_metadata.json"),
    ):
        folder.mkdir()
        (folder / mark).touch()
    monkeypatch.setattr(install, "find_spec", lambda name: object())
    assert install._pip("install", plain) == "pip install"
    assert install._pip("uninstall", plain) == "pip uninstall -y"
    assert install._pip("install", uv) == f'uv pip install --python "{uv}"'
    assert install._pip("uninstall", uv) == f'uv pip uninstall --python "{uv}"'
    assert install._pip("install", pipx) == "pipx runpip datasetkit install"
    monkeypatch.setattr(install, "find_spec", lambda name: None)  # `uv venv` makes one without pip
    assert install._pip("install", plain) == f'uv pip install --python "{plain}"'


def test_a_clone_that_is_only_run_counts_as_one_that_is_installed(monkeypatch):
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    origin = install._origin()
    root = Path(install.__file__).resolve().parents[2]
    assert origin is not None and install.requirement(["web"], origin) == f'-e "{root}[web]"'


def test_packages_that_overwrite_each_other_are_removed_first():
    line = install.replace_command(["onnxruntime"], "gpu")
    removed, _, installed = line.partition(", then ")
    assert "uninstall" in removed and removed.endswith(" onnxruntime")
    assert installed == install.install_command("gpu")
