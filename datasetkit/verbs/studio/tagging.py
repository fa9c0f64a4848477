"""The images of a project that have no caption, and the commands that tag them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from datasetkit.core.errors import DskError
from datasetkit.core.files import caption_path
from datasetkit.verbs.studio import concepts
from datasetkit.verbs.studio.commands import command, seen
from datasetkit.verbs.studio.session import StudioSession


def overview(studio: StudioSession) -> dict[str, Any]:
    """Return the commands that tag the images without a caption, one for each concept."""
    rows: list[dict[str, Any]] = []
    with suppress(DskError):  # the tab Captions says what is wrong with the images
        for concept in concepts.find_concepts(studio):
            images = concepts.allowed_finished(studio, concept)
            missing = sum(not caption_path(path).exists() for path in images)
            if concept.kind == "reg" or missing == 0:
                continue
            arguments = [seen(studio, images[0].parent)]
            options = {"trigger": list(concept.trigger)} if concept.trigger else {}
            rows.append({
                "name": concept.name,
                "images": missing,
                "arguments": arguments,
                "options": options,
                "command": command(studio, "tag", arguments, options).shown,
            })  # fmt: skip
    return {"concepts": rows}
