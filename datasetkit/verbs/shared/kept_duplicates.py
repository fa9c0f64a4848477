"""The groups of near-duplicates of which a person keeps all images: `dsk check` and the review page
share them, in the store of the project.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from datasetkit.checks.base import CheckImage, CheckInput
from datasetkit.checks.images import near_groups
from datasetkit.core.errors import ConfigError, DskError
from datasetkit.core.files import display
from datasetkit.executors import local
from datasetkit.images import near_duplicates
from datasetkit.images.near_duplicates import KEPT, SEEN_AT, fingerprint, kept_row, small
from datasetkit.options.check import CheckOptions
from datasetkit.options.toml import find
from datasetkit.project.session import Project
from datasetkit.project.store import Store

ALL, NONE = "all", "none"


class KeptGroups:
    """Tells whether a group is kept. Fingerprints are computed as the review page does, and only
    where some group is kept.
    """

    def __init__(self, store: Store, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self.kept = near_duplicates.kept_groups(store.measurements(KEPT))
        self._known: dict[Path, bytes] = {}

    def __call__(self, group: Sequence[CheckImage]) -> bool:
        return bool(self.kept) and near_duplicates.is_kept(
            self.fingerprints(group), self.kept.values()
        )

    def fingerprints(self, group: Sequence[CheckImage]) -> list[bytes]:
        """Return the fingerprint of each image, b"" for one that cannot be read."""
        new = [item.path for item in group if item.path not in self._known]
        for path, look in zip(new, local.each(self._fingerprint, new, name="looking"), strict=True):
            self._known[path] = look if isinstance(look, bytes) else b""
        return [self._known[item.path] for item in group]

    def _fingerprint(self, path: Path) -> bytes:
        return fingerprint(small(path, SEEN_AT, max_pixels=self.max_pixels))


def keep_groups(data: CheckInput, options: CheckOptions, project: Project) -> None:
    """Keep the groups that the options name, for `data` and in the store. Raises ConfigError for an
    image without near-duplicates.
    """
    kept = data.is_kept
    assert isinstance(kept, KeptGroups)
    if options.keep_duplicates == (NONE,):
        rows = [(key, b"") for key in kept.kept]
        kept.kept.clear()
    else:
        rows = [kept_row(kept.fingerprints(group)) for group in _named(data, options)]
        kept.kept |= near_duplicates.kept_groups(dict(rows))
    if rows and not project.context.dry_run:
        project.store.put_measurements(KEPT, rows)


def keeps_all(folder: Path) -> bool:
    """Tell whether dsk.toml keeps every group. One that cannot be read is reported elsewhere."""
    with suppress(DskError):
        return find(folder).build(CheckOptions, "check").keep_duplicates == (ALL,)
    return False


def _named(data: CheckInput, options: CheckOptions) -> list[list[CheckImage]]:
    groups = near_groups(data)
    if options.keep_duplicates == (ALL,):
        return groups
    wanted = []
    for name in options.keep_duplicates:
        group = next((g for g in groups if any(item.path.name == name for item in g)), None)
        if group is None:
            raise ConfigError(
                f"no image {display(name)} has near-duplicates",
                hint="dsk check --only near-duplicate,duplicate lists them",
            )
        wanted.append(group)
    return wanted
