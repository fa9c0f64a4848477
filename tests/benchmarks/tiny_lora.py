"""What LoRAs learn on the tiny base: Sylvie's face, with and without a reg set, with and without her own tags.

python -m tests.benchmarks.tiny_lora OUT [--epochs N] trains three LoRAs, measures what they changed, and writes the
table and the contact sheet of docs/tiny-base.md to OUT.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from datasetkit.core.config import TrainOptions
from datasetkit.vision.models import open_model
from datasetkit.vision.nouns import prepare
from trainer import losses, noise
from trainer.families import sd
from trainer.families.base import Parts
from trainer.plan import find_subsets, make_plan
from trainer.run import train
from trainer.schedule import alphas_cumprod
from trainer.tinybase import autoencoder, draw

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "tiny-lora"
TRIGGER: Final = "sylvie"
OWN: Final = ("orange hair", "long hair", "bangs")  # what makes her Sylvie
REPEATS: Final = 10
# Prompts of what her pictures show beside her; with and without the trigger, and with another colour of hair.
SCENES: Final = tuple(
    f"{mood}, {shirt} shirt, {background} background"
    for mood in ("smile, open mouth", "closed eyes, smile, teeth")
    for shirt in ("blue", "green")
    for background in ("white", "red", "yellow", "green", "blue", "pink")
)
OTHER_HAIR: Final = "blue hair"


@dataclass(frozen=True, slots=True)
class Learned:
    """A LoRA: its files, one an epoch, the last one the final one."""

    files: tuple[Path, ...]
    seconds: float
    steps: int


def data_set(folder: Path, *, reg: bool, keep: Sequence[str] = ()) -> Path:
    """Lay out her faces, her own tags left out of the captions but those in `keep`, and the girls."""
    faces = folder / "train" / f"{REPEATS}_{TRIGGER}"
    faces.mkdir(parents=True)
    for path in sorted((EXAMPLE / "faces").glob("*.jpg")):
        shutil.copy(path, faces)
        tags = path.with_suffix(".txt").read_text(encoding="utf-8").strip().split(", ")
        kept = [tag for tag in tags if tag not in OWN or tag in keep]
        (faces / path.name).with_suffix(".txt").write_text(", ".join([TRIGGER, *kept]), encoding="utf-8")
    if reg:
        girls = folder / "reg" / f"{REPEATS}_1girl"
        shutil.copytree(EXAMPLE / "girls", girls)
    return folder


def options(out: Path, **others: Any) -> TrainOptions:
    """Return how all of them are trained: on the tiny base, in float32."""
    given: dict[str, Any] = {
        "pretrained_model_name_or_path": "tiny",
        "output_dir": str(out),
        "output_name": TRIGGER,
        "resolution": 64,
        "train_batch_size": 4,
        "max_train_epochs": 8,
        "keep_tokens": 1,
        "network_dim": 16,
        "network_alpha": 16,
        "learning_rate": 2e-3,
        "text_encoder_lr": 1e-3,
        "min_snr_gamma": 5.0,
        "mixed_precision": "no",
        "save_state": False,
        "seed": 1,
    }
    return TrainOptions(**{**given, **others})


def learn(data: Path, chosen: TrainOptions) -> Learned:
    """Train one LoRA."""
    made = train(chosen, make_plan(find_subsets(data, chosen)[0], chosen))
    return Learned(made.files, made.seconds, made.steps)


@contextmanager
def with_lora(file: Path | None) -> Iterator[Parts]:
    """Load the tiny base, with a LoRA as diffusers loads it."""
    parts = sd.load("tiny")
    if file is not None:
        draw.pipeline(parts).load_lora_weights(str(file.parent), weight_name=file.name, local_files_only=True)
        for part in (parts.unet, parts.text_encoder):
            part.eval()
    yield parts


def held_out() -> list[Path]:
    """Return her pictures that nothing was trained on."""
    return sorted((EXAMPLE / "held-out").glob("*.jpg"))


def read(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """Return pictures at the base's size, (n, 64, 64, 3)."""
    return np.stack(
        [np.asarray(Image.open(p).convert("RGB").resize((64, 64), Image.Resampling.LANCZOS)) for p in paths]
    )


@torch.no_grad()
def loss_on(parts: Parts, paths: Sequence[Path]) -> float:
    """Return the mean loss on pictures with her trigger, at 40 even timesteps, of noise that is always the same."""
    alphas = alphas_cumprod()
    latents = parts.vae.encode(autoencoder.pixels(read(paths))).latent_dist.mean * sd.LATENT_SCALE
    captions = []
    for path in paths:
        tags = path.with_suffix(".txt").read_text(encoding="utf-8").strip().split(", ")
        captions.append(", ".join([TRIGGER, *(tag for tag in tags if tag not in OWN)]))
    text = sd.encode_text(parts, captions, clip_skip=1, max_tokens=75)
    draws = torch.Generator().manual_seed(0)
    found = []
    for at in range(12, 1000, 25):
        t = torch.full((len(paths),), at)
        eps = torch.randn(latents.shape, generator=draws)
        found.append(losses.mse(sd.predict(parts, noise.add_noise(latents, eps, t, alphas), t, text), eps).mean())
    return float(torch.stack(found).mean())


def features(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what EfficientNet-Lite0 sees in pictures: its 1000 scores less their mean, of length 1."""
    session = open_model("nouns", 2)
    prepared = [prepare(Image.fromarray(picture)) for picture in pictures]
    scores = np.concatenate([np.asarray(session.run(None, {"input": p[None]})[0], np.float32) for p in prepared])
    scores = scores - scores.mean(axis=1, keepdims=True)
    return np.asarray(scores / np.linalg.norm(scores, axis=1, keepdims=True), np.float32)


def distance(drawn: NDArray[np.uint8], concept: NDArray[np.float32]) -> float:
    """Return how far pictures are from a concept: 1 - cosine to the nearest of its pictures, mean over all."""
    return float(1 - (features(drawn) @ concept.T).max(axis=1).mean())


def hue_of_hair(pictures: NDArray[np.uint8]) -> list[str]:
    """Return for each picture whether the crown of the head is blue, orange or something else."""
    found = []
    for crown in pictures[:, 8:17, 26:38].reshape(len(pictures), -1, 3).astype(int):
        red, green, blue = np.median(crown, axis=0)
        found.append(
            "blue" if blue > red + 30 and blue > green + 20 else "orange" if red > green + 30 > blue else "other"
        )
    return found


def prompts(*words: str) -> list[str]:
    """Return the scenes, with words before them."""
    return [", ".join([*words, "1girl", scene]) for scene in SCENES]


def measured(file: Path | None, before: NDArray[np.uint8] | None, concept: NDArray[np.float32]) -> dict[str, Any]:
    """Return the numbers of one LoRA (None: of the base). before: what the base draws without the trigger."""
    with with_lora(file) as parts:
        named = draw.draw(parts, prompts(TRIGGER), seed=100)
        unnamed = draw.draw(parts, prompts("black hair", "short hair"), seed=100)
        recoloured = draw.draw(parts, prompts(TRIGGER, OTHER_HAIR), seed=100)
        held = loss_on(parts, held_out())
    changed = 0.0 if before is None else float(np.abs(unnamed.astype(int) - before).mean())
    return {
        "loss on held-out pictures": held,
        "distance with trigger": distance(named, concept),
        "distance without": distance(unnamed, concept),
        "change without trigger": changed,
        "blue when asked for": hue_of_hair(recoloured).count("blue") / len(SCENES),
        "orange when not asked": hue_of_hair(named).count("orange") / len(SCENES),
        "pictures": {"named": named, "unnamed": unnamed, "recoloured": recoloured},
    }


def sheet(files: Sequence[Path | None], columns: int = 4) -> Image.Image:
    """Draw rows of moments, with and without the trigger side by side."""
    rows = []
    for file in files:
        with with_lora(file) as parts:
            chosen = SCENES[:: len(SCENES) // columns][:columns]
            texts = [f"1girl, black hair, short hair, {s}" for s in chosen] + [f"{TRIGGER}, 1girl, {s}" for s in chosen]
            rows.append(draw.draw(parts, texts, seed=100))
    return draw.grid(np.concatenate(rows), 2 * columns)


VARIANTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "with reg set": {"reg": True},
    "without reg set": {"reg": False},
    "hair's tag kept": {"reg": True, "keep": ("orange hair",)},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.tiny_lora", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", help="an option of [train]")
    asked = parser.parse_args(arguments)
    others = {name: float(value) for name, value in (pair.split("=") for pair in asked.set)}
    concept = features(read(sorted((EXAMPLE / "faces").glob("*.jpg"))))
    table = {"base": measured(None, None, concept)}
    before = table["base"]["pictures"]["unnamed"]
    learned = {}
    for name, how in VARIANTS.items():
        folder = asked.out / name.replace(" ", "-").replace("'", "")
        shutil.rmtree(folder, ignore_errors=True)
        data = data_set(folder / "data", **how)
        learned[name] = learn(data, options(folder / "out", max_train_epochs=asked.epochs, **others))
        table[name] = measured(learned[name].files[-1], before, concept)
        print(f"{name}: measured", flush=True)
    for name, numbers in table.items():
        shown = numbers.pop("pictures")
        for kind, pictures in shown.items():
            draw.grid(pictures, 8).save(asked.out / f"{name.replace(' ', '-')}-{kind}.png")
        took = f"  ({learned[name].steps} steps, {learned[name].seconds:.0f} s)" if name in learned else ""
        print(name, json.dumps({k: round(v, 4) for k, v in numbers.items()}), took, flush=True)
    (asked.out / "table.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    files = learned["with reg set"].files
    sheet([None, *files[:: max(1, len(files) // 4)][:4], files[-1]]).save(asked.out / "sheet.png")


if __name__ == "__main__":
    main()
