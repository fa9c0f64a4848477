"""Validation split: choose the images that are validated instead of trained, by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from datasetkit.core.errors import DatasetError


def held_out(ids: Iterable[str], reg: Iterable[str], split: float, seed: int) -> tuple[str, ...]:
    """Return the contents (image ids) that are held out, in the order of validation.

    A content is held out if its hash with the seed, scaled to 0..1, is below `split`. So the choice
    does not depend on names, folders, repeats or other images, and images added later do not change
    it. At least one is held out, and at least one is trained. reg: the regularisation images; an
    image that is also among them is trained anyway, so it is never held out. Raises DatasetError
    for fewer than two different images.
    """
    if not split:
        return ()
    contents = set(ids)
    ranked = sorted((fraction_of(content, seed), content) for content in contents - set(reg))
    if not ranked or len(contents) < 2:
        raise DatasetError(
            "validation_split needs at least two different training images",
            hint="add images, or set validation_split = 0",
        )
    chosen = [content for fraction, content in ranked if fraction < split] or [ranked[0][1]]
    return tuple(chosen if len(chosen) < len(contents) else chosen[:-1])


def fraction_of(content: str, seed: int) -> float:
    """Return the hash of a content with the seed, scaled to 0..1."""
    digest = hashlib.sha256(json.dumps([seed, content, "validation"]).encode("ascii")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
