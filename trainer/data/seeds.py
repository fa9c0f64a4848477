"""Random streams: one for each purpose of each sample, the same on every platform.

A stream depends only on (seed, epoch, image id, sample, purpose), not on what was drawn before. So
an image's noise is the same in any batch, with any number of workers, and after a resume.
"""

from __future__ import annotations

import hashlib
import json
import random

import torch


def generator(seed: int, epoch: int, image_id: str, sample: int, purpose: str) -> torch.Generator:
    """Return a torch generator on the CPU for one purpose ("noise", "timestep", ...) of one sample.

    torch's CPU generator uses the low 32 bits of a seed, so among a million streams about a hundred
    pairs are equal; they belong to unrelated samples and purposes.
    """
    stream = torch.Generator()
    stream.manual_seed(int.from_bytes(_digest(seed, epoch, image_id, sample, purpose)[:8], "big"))
    return stream


def rng(seed: int, epoch: int, image_id: str, sample: int, purpose: str) -> random.Random:
    """Return a `random.Random` for one purpose ("caption", "crop", ...) of one sample."""
    return random.Random(int.from_bytes(_digest(seed, epoch, image_id, sample, purpose), "big"))


def _digest(seed: int, epoch: int, image_id: str, sample: int, purpose: str) -> bytes:
    # JSON separates the fields: ("a", 11) and ("a1", 1) must not give the same stream.
    return hashlib.sha256(
        json.dumps([seed, epoch, image_id, sample, purpose]).encode("ascii")
    ).digest()
