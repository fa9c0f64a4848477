"""The command lines that install packages, as hints and pages show them.

A hint installs into the environment that dsk runs in, from where dsk itself came: a clone, a wheel,
a repository or PyPI (PEP 610 records which). Every command imports this module, and few show a
hint: what takes long to import is imported inside of functions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

NAME: Final = "datasetkit"
# A release sets it to True: the short line then works everywhere.
ON_PYPI: Final = False
REPOSITORY: Final = "git+https://github.com/datasetkit/datasetkit"


def published(*extras: str) -> str:
    """Return the requirement that works on any machine: what the pages show."""
    return _named(extras) if ON_PYPI else f"{_named(extras)} @ {REPOSITORY}"


def install_command(*extras: str) -> str:
    """Return the command that adds extras to this installation."""
    return f"{_pip('install')} {requirement(extras, _origin())}"


def reinstall_command() -> str:
    """Return the command that repairs this installation."""
    return f"{_pip('install')} --force-reinstall --no-deps {requirement((), _origin())}"


def upgrade_command() -> str:
    """Return the command that upgrades dsk."""
    return f"{_pip('install')} --upgrade {quoted(published())}"


def package_command(*packages: str) -> str:
    """Return the command that installs other packages beside dsk."""
    return f"{_pip('install')} {' '.join(packages)}"


def replace_command(removed: Iterable[str], extra: str) -> str:
    """Return the commands that remove packages, and then install an extra in their place."""
    return f"{_pip('uninstall')} {' '.join(removed)}, then {install_command(extra)}"


def requirement(extras: Iterable[str], origin: Mapping[str, Any] | None) -> str:
    """Return what to install, quoted for a shell. origin: the direct_url.json of the installation,
    None for an index.
    """
    from urllib.parse import urlparse
    from urllib.request import url2pathname

    url = str(origin["url"]) if origin else ""
    local = Path(url2pathname(urlparse(url).path)) if url.startswith("file:") else None
    if origin is None or (local is not None and not local.exists()):
        return quoted(published(*extras))
    if local is not None and origin.get("dir_info", {}).get("editable"):
        return f"-e {quoted(f'{local}{_in_brackets(extras)}')}"
    if vcs := origin.get("vcs_info"):
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    return quoted(f"{_named(extras)} @ {url}")


def quoted(text: str) -> str:
    """Return a text in double quotes, which every shell takes."""
    return f'"{text}"'


def _named(extras: Iterable[str]) -> str:
    return NAME + _in_brackets(extras)


def _in_brackets(extras: Iterable[str]) -> str:
    joined = ",".join(extras)
    return f"[{joined}]" if joined else ""


def _origin() -> Mapping[str, Any] | None:
    """Return where this installation came from; a clone that is run without being installed counts
    as editable.
    """
    import importlib.metadata

    try:
        recorded = importlib.metadata.distribution(NAME).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        clone = Path(__file__).resolve().parents[2]
        if not (clone / "pyproject.toml").is_file():
            return None
        return {"url": clone.as_uri(), "dir_info": {"editable": True}}
    origin: Mapping[str, Any] | None = json.loads(recorded) if recorded else None
    return origin


def _pip(verb: str, prefix: Path | None = None) -> str:
    """Return `pip install` or `pip uninstall` for an environment (default: this one): those of
    `uv tool` have no pip, and the `pip` on the PATH is not that of pipx.
    """
    prefix = prefix or Path(sys.prefix)
    if (prefix / "pipx_metadata.json").is_file():
        return f"pipx runpip {prefix.name} {verb}{' -y' if verb == 'uninstall' else ''}"
    if (prefix / "uv-receipt.toml").is_file() or find_spec("pip") is None:
        return f"uv pip {verb} --python {quoted(str(prefix))}"
    return f"pip {verb}{' -y' if verb == 'uninstall' else ''}"
