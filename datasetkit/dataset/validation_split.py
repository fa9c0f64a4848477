"""Holding out: which images are kept from training to validate it, by their contents alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from datasetkit.core.errors import DatasetError


def held_out(ids: Iterable[str], reg: Iterable[str], split: float, seed: int) -> tuple[str, ...]:
    """Return the contents (image ids) that are held out, in the order in which they are
    validated.

    A content is held out where its hash with the seed, as a fraction of all hashes, is below
    `split`: so it does not depend on names, folders, repeats or the other images, and images
    that are added later move none of those that are there. At least one is held out, and at least
    one stays. reg: what also lies in the regularisation set is trained in any case, and so is never
    held out. Raises DatasetError where no two different images are there.
    """
    if not split:
        return ()
    known = set(ids)
    ranked = sorted((place(one, seed), one) for one in known - set(reg))
    if not ranked or len(known) < 2:
        raise DatasetError(
            "validation_split needs at least two different training images",
            hint="add images, or set validation_split = 0",
        )
    chosen = [one for fraction, one in ranked if fraction < split] or [ranked[0][1]]
    return tuple(chosen if len(chosen) < len(known) else chosen[:-1])


def place(one: str, seed: int) -> float:
    """Return where a content lies between 0 and 1."""
    digest = hashlib.sha256(json.dumps([seed, one, "validation"]).encode("ascii")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
