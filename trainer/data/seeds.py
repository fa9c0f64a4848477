"""Seeds: one random stream for each purpose of each sample to an image, the same on every platform.

A stream depends on (seed, epoch, image id, sample, purpose) and on nothing that was drawn before.
So the noise of an image is the same in a batch of one or five, with any number of workers, and
after a resume.
"""

from __future__ import annotations

import hashlib
import json
import random

import torch


def generator(seed: int, epoch: int, image_id: str, sample: int, purpose: str) -> torch.Generator:
    """Return a torch generator on the CPU for one purpose ("noise", "timestep", ...) of one sample.

    torch's CPU generator keeps the low 32 bits of a seed, so of a million streams about a hundred
    pairs are equal; they belong to unrelated samples and purposes.
    """
    made = torch.Generator()
    made.manual_seed(int.from_bytes(_digest(seed, epoch, image_id, sample, purpose)[:8], "big"))
    return made


def rng(seed: int, epoch: int, image_id: str, sample: int, purpose: str) -> random.Random:
    """Return a `random.Random` for one purpose ("caption", "crop", ...) of one sample."""
    return random.Random(int.from_bytes(_digest(seed, epoch, image_id, sample, purpose), "big"))


def _digest(seed: int, epoch: int, image_id: str, sample: int, purpose: str) -> bytes:
    # JSON keeps the fields apart: ("a", 11) and ("a1", 1) must not be one stream.
    return hashlib.sha256(
        json.dumps([seed, epoch, image_id, sample, purpose]).encode("ascii")
    ).digest()
