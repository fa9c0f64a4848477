"""The judge: a small classifier that tells a portrait's colours and glasses, and counts how often
the base obeys.

`python -m trainer.tools.tinybase.judge WORK [MODEL]` trains it on portraits that the base has not
seen, says how well it does on others, and judges what a model (the shipped one) draws of 200
held-out prompts.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from trainer.families import sd
from trainer.tools.tinybase import data, draw
from trainer.tools.tinybase.autoencoder import pixels
from trainer.tools.tinybase.render import RenderedImages
from trainer.tools.tinybase.resumable_training import Loss, TrainingStage, train_stage
from trainer.tools.tinybase.train import images, reconstructed

# What is judged -> the tags that it can be; "" is none of them.
JUDGED: Final[Mapping[str, tuple[str, ...]]] = {
    "hair": tuple(f"{name} hair" for name in data.HAIR),
    "background": tuple(f"{name} background" for name in data.BACKGROUND),
    "glasses": ("", *data.GLASSES),
}
PROMPTS: Final = 200
STAGE: Final = TrainingStage("judge", 800, 2e-3, seed=7)
_BATCH: Final = 64
_UNKNOWN: Final = -100  # torch's class that counts nowhere: a bald head has no colour of hair


class Judge(nn.Module):
    """Four layers that halve the image, and an answer for each of `JUDGED`."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 96, 128)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(8, after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.answers = nn.ModuleDict(
            {name: nn.Linear(widths[-1] * 16, len(tags)) for name, tags in JUDGED.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the scores of each answer. images: (n, 3, 64, 64), from -1 to 1."""
        seen = self.body(images).flatten(1)
        return {name: answer(seen) for name, answer in self.answers.items()}

    @torch.no_grad()
    def tags(self, shown: NDArray[np.uint8]) -> dict[str, list[str]]:
        """Return for images (n, 64, 64, 3) the tag of each answer."""
        scores = self(pixels(shown))
        return {
            name: [JUDGED[name][n] for n in logits.argmax(dim=1).tolist()]
            for name, logits in scores.items()
        }


def right(name: str, tags: Sequence[str]) -> str | None:
    """Return which of the tags of an answer a caption has: "" where none is one of them, None where
    none must be.
    """
    matches = [tag for tag in tags if tag in JUDGED[name]]
    if matches:
        return matches[0]
    return "" if "" in JUDGED[name] else None


def trained(work: Path) -> Judge:
    """Return the judge, trained on the set "any" where `work` has none yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(STAGE.seed)
        judge = Judge()
    path = work / "judge.safetensors"
    if not path.is_file():
        learner = nn.ModuleDict({"judge": judge})
        learner = train_stage(STAGE, learner, _loss(judge, images(work, "any")), work)
        save_file(learner["judge"].state_dict(), path)
    judge.load_state_dict(load_file(path))
    return judge.eval()


def _loss(judge: Judge, known: RenderedImages) -> Loss:
    numbers = {name: torch.tensor([_number(name, tags) for tags in known.tags]) for name in JUDGED}

    def of_step(step: int) -> Tensor:
        generator = STAGE.draws(step)
        chosen = torch.randint(len(known.tags), (_BATCH,), generator=generator)
        images = worn(pixels(known.pixels[chosen.numpy()]), generator)
        scores = judge(images)
        each = [functional.cross_entropy(scores[name], numbers[name][chosen]) for name in JUDGED]
        return torch.stack(each).sum()

    return of_step


def _number(name: str, tags: Sequence[str]) -> int:
    tag = right(name, tags)
    return _UNKNOWN if tag is None else JUDGED[name].index(tag)


def worn(images: Tensor, draws: torch.Generator) -> Tensor:
    """Blur, move and speckle images a little, each by chance: what a model draws is less clean
    than a drawing.
    """
    soft = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    strength = torch.rand((len(images), 1, 1, 1), generator=draws)
    images = torch.lerp(images, soft, strength)
    images = images + 0.1 * strength.flip(0) * torch.randn(images.shape, generator=draws)
    down, right_ = torch.randint(-2, 3, (2,), generator=draws).tolist()
    return images.roll((down, right_), dims=(2, 3))


def accuracy(
    judge: Judge, shown: NDArray[np.uint8], tags: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Return for each answer in which part of the images it is what the tags say."""
    judged = judge.tags(shown)
    told = {}
    for name, answers in judged.items():
        pairs = [(a, right(name, t)) for a, t in zip(answers, tags, strict=True)]
        told[name] = float(np.mean([a == wanted for a, wanted in pairs if wanted is not None]))
    asked = [(a, right("glasses", t)) for a, t in zip(judged["glasses"], tags, strict=True)]
    told["glasses where asked for"] = float(np.mean([a == wanted for a, wanted in asked if wanted]))
    return told


def prompts(held: RenderedImages) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return held-out prompts, shuffled tags of pairs of colours that no training image has, and
    their tags.
    """
    rng = random.Random(11)
    tags = list(held.tags[:PROMPTS])
    return [", ".join(rng.sample(list(t), len(t))) for t in tags], tags


def main(arguments: list[str]) -> int:
    """Judge a model."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.tools.tinybase.judge", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument(
        "work", type=Path, metavar="WORK", help="the folder that the base was made in"
    )
    parser.add_argument(
        "model",
        nargs="?",
        default="tiny",
        metavar="MODEL",
        help="a diffusers folder (default: tiny)",
    )
    parser.add_argument("--guidance", type=float, default=draw.GUIDANCE)
    parser.add_argument("--steps", type=int, default=draw.STEPS)
    given = parser.parse_args(arguments)
    judge, held = trained(given.work), images(given.work, "held")
    parts = sd.load(given.model)
    texts, tags = prompts(held)
    drawn = draw.draw(parts, texts, steps=given.steps, guidance=given.guidance)
    draw.grid(drawn[:64], 16).save(given.work / "judged.png")
    report = {
        "judge on held-out images": accuracy(judge, held.pixels, held.tags),
        "judge on them after the VAE": accuracy(
            judge, reconstructed(parts.vae, held.pixels[:PROMPTS]), tags
        ),
        "the base on held-out prompts": accuracy(judge, drawn, tags),
    }
    (given.work / "judged.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    for of, numbers in report.items():
        sys.stdout.write(
            f"{of}: {', '.join(f'{name} {100 * part:.1f} %' for name, part in numbers.items())}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
