"""What other programs read beside a LoRA file, written from their documented rules: A1111 (and
Forge), and the model browser of ComfyUI.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif")


@dataclass(frozen=True)
class Card:
    """A LoRA as A1111 shows it: what a click adds to the prompt."""

    preview: Path | None
    description: str
    version: str
    prompt: str
    negative: str


def a1111(folder: Path, stem: str, *, default_weight: float = 1.0) -> Card:
    """For each suffix, `<stem>.<suffix>` comes before `<stem>.preview.<suffix>`. A `<stem>.txt`
    is the description of files without JSON. A preferred weight of 0 is none.
    """
    named = (folder / f"{stem}{mark}{s}" for s in IMAGES for mark in ("", ".preview"))
    path = folder / f"{stem}.json"
    fields = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    text = folder / f"{stem}.txt"
    weight = float(fields.get("preferred weight", 0) or 0) or default_weight
    words = fields.get("activation text", "")
    return Card(
        next((p for p in named if p.is_file()), None),
        fields.get("description") or (text.read_text() if text.is_file() else ""),
        fields.get("sd version", "Unknown"),
        f"<lora:{stem}:{weight:g}>" + (f" {words}" if words else ""),
        fields.get("negative text", ""),
    )


def comfyui(folder: Path, stem: str) -> list[Path]:
    """Images named `<stem>.<suffix>` or `<stem>.preview.<suffix>`."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGES and path.stem in (stem, f"{stem}.preview")
    )
