"""The table of suggestions for the captions of some images: which tags to remove, add or keep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from datasetkit.captions.caption import forms_of
from datasetkit.captions.pruning import PruneKind, Suggestion, TaggedImage, chosen, suggest
from datasetkit.captions.vocabulary import load
from datasetkit.core.errors import ConfigError
from datasetkit.core.records import Caption
from datasetkit.dataset.trigger import KnownTrigger
from datasetkit.options.tag import TagOptions
from datasetkit.verbs.shared.stored_scores import StoredScores, threshold_of
from taggers.selection import threshold_steps

# From the id of an image: its scores in units of 1e-4 by normal form, and the threshold.
Scored = Callable[[str], tuple[Mapping[str, int], int]]


def table_of(
    images: Iterable[tuple[Path, str, Caption | None]],
    triggers: Mapping[Path, KnownTrigger],
    kind: PruneKind,
    scored: Scored,
) -> tuple[Suggestion, ...]:
    """Return the rows for images, folder by folder. images: each with its id and caption.

    Images without tags do not count.
    """
    by_folder: defaultdict[Path, list[TaggedImage]] = defaultdict(list)
    for path, image_id, caption in images:
        if caption is None or not caption.tags:
            continue
        scores, threshold = scored(image_id)
        by_folder[path.parent].append(
            TaggedImage(path, path.parent, forms_of(caption), scores, threshold)
        )
    rows: list[Suggestion] = []
    for folder, members in by_folder.items():
        forms = triggers[folder].forms if folder in triggers else frozenset()
        rows += [replace(row, folder=folder.name) for row in suggest(members, kind, forms, load())]
    order = {"remove": 0, "add": 1, "keep": 2}
    return tuple(sorted(rows, key=lambda row: order[row.action]))


def scored(scores: StoredScores, options: TagOptions, image: str) -> tuple[Mapping[str, int], int]:
    """Return the stored scores of an image, and the threshold that chose its tags."""
    stored = scores.of(image)
    key = stored[1].keys[0] if stored is not None else ""
    return scores.by_form(image), threshold_steps(threshold_of(options, key))


def chosen_rows(rows: Sequence[Suggestion], wanted: Sequence[str]) -> list[Suggestion]:
    """Return the rows that `--apply` names. Raises ConfigError for a word that names none."""
    try:
        return chosen(rows, wanted)
    except KeyError as error:
        raise ConfigError(
            f"--apply {error.args[0]}: no row of the table has this number or tag",
            hint="take recommended, all, or the numbers or tags of rows that dsk rules DIR "
            "--suggest prints",
        ) from None
