"""The tags that dsk.toml excludes from the captions of a concept, so that its trigger learns what
they say, and that its captions still have.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from datasetkit.core.errors import DskError
from datasetkit.core.progress import SILENT
from datasetkit.options.tag import RulesOptions
from datasetkit.options.toml import find
from datasetkit.verbs.rules import rules
from datasetkit.verbs.shared.concept_folders import declared_exclude
from datasetkit.verbs.studio import concepts
from datasetkit.verbs.studio.commands import command, seen
from datasetkit.verbs.studio.session import StudioSession


def overview(studio: StudioSession) -> dict[str, Any]:
    """Return the commands that prune the captions, one for each concept, with what they remove."""
    rows: list[dict[str, Any]] = []
    with suppress(DskError):  # the tab Captions says what is wrong with the images
        config = find(studio.folder)
        declared = [c for c in concepts.find_concepts(studio) if c.is_declared]
        for concept, table in zip(declared, config.concepts, strict=True):
            exclude = declared_exclude(config, table)
            images = concepts.allowed_finished(studio, concept)
            if not exclude or not images:
                continue
            folder = images[0].parent
            dry_run = replace(studio.context, dry_run=True, reporter=SILENT)
            result = rules(folder, RulesOptions(exclude=exclude), dry_run)
            if not result.changes:
                continue
            arguments, options = [seen(studio, folder)], {"exclude": list(exclude)}
            rows.append({
                "name": concept.name,
                "images": len(result.changes),
                "tags": list(exclude),
                "arguments": arguments,
                "options": options,
                "command": command(studio, "rules", arguments, options).shown,
            })  # fmt: skip
    return {"concepts": rows}
