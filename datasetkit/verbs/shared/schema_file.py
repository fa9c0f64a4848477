"""The schema of dsk.toml beside the project's other files, where its `#:schema` line names it."""

from __future__ import annotations

from pathlib import Path

from datasetkit.core.files import CONFIG_NAME, PROJECT, make_project_folder, write_atomic
from datasetkit.options.schema import SHIPPED

# A path beside the dsk.toml, so that it works without a network and moves with the project.
LINE = f"#:schema {PROJECT}/{SHIPPED.name}"


def refresh(root: Path) -> None:
    """Bring the schema of this version to a project whose dsk.toml names it."""
    if LINE in (root / CONFIG_NAME).read_text(encoding="utf-8-sig"):
        place(root)


def place(root: Path) -> None:
    """Copy the schema of this version into `.dsk/`, where editors look for it."""
    target, schema = root / PROJECT / SHIPPED.name, SHIPPED.read_bytes()
    if not target.is_file() or target.read_bytes() != schema:
        make_project_folder(root)
        write_atomic(target, schema)
