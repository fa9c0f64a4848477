"""Which LoRA files were kept (`dsk keep`), where and when: what the history says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasetkit.project.store import Store, has_store, stored_path

_WEIGHT: Final = re.compile(r", weight (\d+(?:\.\d+)?)$")


@dataclass(frozen=True, slots=True)
class KeptLora:
    """A copy. weight: 0 where none was given; time: in seconds since 1970."""

    source: Path
    copy: Path
    weight: float
    time: float
    entry: int


def kept_loras(root: Path) -> dict[Path, KeptLora]:
    """Return the newest copy of each LoRA file that was kept from a project and is still there."""
    if not has_store(root):
        return {}
    with Store.open_copy(root) as store:
        rows = store.database.execute(
            "SELECT src, dst, title, started, journal.id FROM ops JOIN journal "
            "ON journal.id = ops.entry WHERE verb = 'keep' AND kind = 'copy' AND state = 'done' "
            "AND undoes IS NULL ORDER BY journal.id"
        ).fetchall()
    kept: dict[Path, KeptLora] = {}
    for src, dst, title, started, entry in rows:
        source, copy = stored_path(src), stored_path(dst)
        if source is None or copy is None or not isinstance(started, int | float):
            continue
        weight = _WEIGHT.search(str(title))
        copied = KeptLora(
            root / source, root / copy, float(weight[1]) if weight else 0.0, float(started), entry
        )
        if os.path.lexists(copied.copy):
            kept[copied.source] = copied
    return kept
