"""The first stage: the text encoder learns what captions say, before it has seen an image.

CLIP's own was taught on captions and images together. Here the tags are known, so that it can be
asked for them: at the end of each tag which tag it was, so that "blue" is bound to "hair" or to
"background"; at the caption's end and at the last place which tags there were.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from datasetkit.captions import tokens
from datasetkit.captions.tokens import EOS
from trainer.families.clip_text import chunks
from trainer.tools.tinybase import data
from trainer.tools.tinybase.model import WIDTH
from trainer.tools.tinybase.resumable_training import Loss, TrainingStage

NOTHING: Final = -100  # torch's class that counts nowhere
BATCH: Final = 128


def heads(tags: Sequence[str]) -> nn.ModuleDict:
    """Make what is asked of the states, and is thrown away later."""
    return nn.ModuleDict({"which": nn.Linear(WIDTH, len(tags)), "all": nn.Linear(WIDTH, len(tags))})


def vocabulary(captions: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the tags that there are, sorted."""
    return tuple(sorted({tag for tags in captions for tag in tags}))


def tag_ends(caption: str, names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return for each of a caption's 77 tokens the number of the tag that ends there, and the
    numbers of all tags.

    Words that are not in `names` have none.
    """
    tags = [(name, list(names).index(name)) for name in caption.split(", ") if name in names]
    number = dict(tags)
    ends = [NOTHING] * 77
    token = 0
    for name in caption.split(", ") if caption else ():
        token += len(_ids(name))
        if name in number and token < 76:
            ends[token] = number[name]
        token += 1  # the comma
    return ends, [n for _, n in tags]


@cache
def _ids(text: str) -> tuple[int, ...]:
    return tokens.ids(text)[1:-1]


def ids(captions: Sequence[str]) -> Tensor:
    """Return the ids of captions, (captions, 77)."""
    return torch.tensor([chunks(caption, 75)[0] for caption in captions])


def loss(
    stage: TrainingStage, encoder: Any, asked: nn.ModuleDict, captions: Sequence[Sequence[str]]
) -> Loss:
    """Return the loss of a step: how badly tags are predicted from the states."""
    names = vocabulary(captions)

    def of_step(step: int) -> Tensor:
        generator = stage.draws(step)
        rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
        texts = [data.caption(rng.choice(captions), rng, empty=0.05) for _ in range(BATCH)]
        targets = [tag_ends(text, names) for text in texts]
        wanted = torch.zeros(BATCH, len(names))
        for row, (_, numbers) in enumerate(targets):
            wanted[row, numbers] = 1.0
        encoded = ids(texts)
        with torch.autocast("cpu", torch.bfloat16):
            states = encoder(encoded).last_hidden_state
            which, last = asked["which"](states), asked["all"](states[:, -1])
            end = asked["all"](states[torch.arange(BATCH), (encoded == EOS).int().argmax(dim=1)])
        named = functional.cross_entropy(
            which.float().flatten(0, 1), torch.tensor([e for e, _ in targets]).flatten()
        )
        both = [
            functional.binary_cross_entropy_with_logits(each.float(), wanted)
            for each in (end, last)
        ]
        return named + 10 * torch.stack(both).mean()

    return of_step
