"""What LoRAs learn on the tiny base: a fox girl, with and without a reg set, one of her own tags
left out or kept.

python -m tests.benchmarks.tiny_lora OUT trains three LoRAs by the recipe of examples/tiny-lora and
measures what they changed. In OUT are then the table (table.json), what was drawn, and the contact
sheet of docs/tiny-base.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from datasetkit.options.toml import load
from datasetkit.options.train import TrainOptions
from datasetkit.vision.models import open_model
from datasetkit.vision.nouns import prepare
from trainer.config import of_project
from trainer.families import sd
from trainer.families.base import Parts
from trainer.files.save_lora import saved_files
from trainer.objective import losses, noise
from trainer.objective.noise_schedule import alphas_cumprod
from trainer.plan.plan import find_subsets, make_plan
from trainer.run import train
from trainer.tools.tinybase import autoencoder, draw

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "tiny-lora"
TRIGGER: Final = "kitsu"
OWN: Final = (
    "fox ears",
    "orange hair",
    "medium hair",
    "red scarf",
    "sunglasses",
)  # what makes her Kitsu
SHADES: Final = "sunglasses"
REPEATS: Final = {"train": 5, "reg": 3}  # as `dsk layout` and `dsk reg` of the recipe have them
# What the prompts say beside the trigger.
SCENES: Final = tuple(
    f"{mood}, {shirt} shirt, {background} background"
    for mood in ("smile", "frown", "angry, smile", "open mouth")
    for shirt, background in (
        ("blue", "white"),
        ("green", "red"),
        ("white", "yellow"),
        ("black", "green"),
        ("red", "pink"),
    )
)
# Who is drawn without the trigger, scene by scene.
OTHERS: Final = tuple(
    f"{hair} hair, {style}"
    for hair in ("brown", "blue", "black", "blonde")
    for style in ("ponytail", "long hair", "hair bun", "short hair, bangs", "medium hair, glasses")
)
SEED: Final = 100  # of the noise: image n is drawn from the same in each moment


def make_images(folder: Path) -> None:
    """Draw the example's images again, with its script."""
    spec = spec_from_file_location("make_images", EXAMPLE / "make_images.py")
    assert spec is not None and spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main(folder)


@dataclass(frozen=True, slots=True)
class Learned:
    """A LoRA: its files, one an epoch, the last one the final one."""

    files: tuple[Path, ...]
    seconds: float
    steps: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is measured of a model: the base, or the base with a LoRA.

    held_out_loss: on her images that nothing was trained on. with_trigger, without_trigger: how
    far from her images are those that it draws (`distance`). drift: of other people, how far each
    image is from what the base draws of the same prompt and noise, as 1 - cosine of their
    features; drift_pixels: as a mean difference of pixels, 0 to 255. shades_alone: the part of the
    images with the trigger in which she wears her sunglasses; shades_asked: the part where the
    prompt asks for them too.
    """

    held_out_loss: float
    with_trigger: float
    without_trigger: float
    drift: float
    drift_pixels: float
    shades_alone: float
    shades_asked: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """Images (n, 64, 64, 3): with the trigger, without it, with her sunglasses' tag too, and of
    other people.
    """

    named: NDArray[np.uint8]
    unnamed: NDArray[np.uint8]
    with_shades: NDArray[np.uint8]
    others: NDArray[np.uint8]


def data_set(folder: Path, *, reg: bool = True, keep: Sequence[str] = ()) -> Path:
    """Lay out her images as the recipe does; `keep` are those of her own tags that stay in the
    captions.

    What girls of the reg set have instead of them is left out, and kept, with them: of the first 19
    girls, so that the others still say what a colour of hair is.
    """
    faces = folder / "train" / f"{REPEATS['train']}_{TRIGGER}"
    faces.mkdir(parents=True)
    for path in images("faces"):
        shutil.copy(path, faces)
        (faces / path.name).with_suffix(".txt").write_text(caption(path, keep), encoding="utf-8")
    if reg:
        girls = folder / "reg" / f"{REPEATS['reg']}_1girl"
        shutil.copytree(EXAMPLE / "girls", girls)
        for path in (*girls.glob("girl-0*.txt"), *girls.glob("girl-1*.txt")):
            kept = [
                tag
                for tag in _tags(path)
                if not tag.endswith(" hair") and (tag not in OWN or tag in keep)
            ]
            path.write_text(", ".join(kept), encoding="utf-8")
    return folder


def images(name: str) -> list[Path]:
    """Return the images of one of the example's folders."""
    return sorted((EXAMPLE / name).glob("*.png"))


def caption(path: Path, keep: Sequence[str] = ()) -> str:
    """Return what is trained of an image of hers: the trigger, and its tags without her own."""
    return ", ".join([TRIGGER, *(tag for tag in _tags(path) if tag not in OWN or tag in keep)])


def _tags(path: Path) -> list[str]:
    return path.with_suffix(".txt").read_text(encoding="utf-8").strip().split(", ")


def recipe(out: Path, **others: Any) -> TrainOptions:
    """Return `[train]` of the example's dsk.toml, without its preview images."""
    options = of_project(load(EXAMPLE / "dsk.toml"), {})
    quiet = {
        "sample_prompts": "",
        "sample_every_n_epochs": None,
        "sample_at_first": False,
        "save_every_n_epochs": 1,
    }
    return replace(options, output_dir=str(out), **{**quiet, **others})


def learn(data: Path, options: TrainOptions) -> Learned:
    """Train one LoRA."""
    made = train(options, make_plan(find_subsets(data, options)[0], options))
    return Learned(made.files, made.seconds, made.steps)


@contextmanager
def with_lora(file: Path | None) -> Iterator[Parts]:
    """Load the tiny base, with a LoRA as diffusers loads it."""
    parts = sd.load("tiny")
    if file is not None:
        draw.pipeline(parts).load_lora_weights(
            str(file.parent), weight_name=file.name, local_files_only=True
        )
        for part in (parts.denoiser, parts.encoders["text_encoder"]):
            part.eval()
    yield parts


def read(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """Return images at the base's size, (n, 64, 64, 3)."""
    return np.stack(
        [
            np.asarray(Image.open(p).convert("RGB").resize((64, 64), Image.Resampling.LANCZOS))
            for p in paths
        ]
    )


@torch.no_grad()
def loss_on(parts: Parts, paths: Sequence[Path], every: int = 25) -> float:
    """Return the mean loss on images with her trigger, always with the same noise. every: distance
    of the timesteps.
    """
    alphas = alphas_cumprod()
    latents = parts.vae.encode(autoencoder.pixels(read(paths))).latent_dist.mean * sd.LATENT_SCALE
    text = sd.encode_text(parts, [caption(path) for path in paths], clip_skip=1, max_tokens=75)
    draws = torch.Generator().manual_seed(0)
    found = []
    for at in range(12, 1000, every):
        t = torch.full((len(paths),), at)
        eps = torch.randn(latents.shape, generator=draws)
        found.append(
            losses.mse(
                sd.predict(parts, noise.add_noise(latents, eps, t, alphas), t, text), eps
            ).mean()
        )
    return float(torch.stack(found).mean())


def features(shown: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what EfficientNet-Lite0 sees in images: its 1000 scores less those of a usual girl,
    of length 1.
    """
    seen = _scores(shown) - _usual()
    return np.asarray(seen / np.linalg.norm(seen, axis=1, keepdims=True), np.float32)


@cache
def _usual() -> NDArray[np.float32]:
    """Return the mean scores of the regularisation set."""
    return np.asarray(_scores(read(images("girls"))).mean(axis=0), np.float32)


@cache
def _session() -> Any:
    return open_model("nouns", 1)


def _scores(shown: NDArray[np.uint8]) -> NDArray[np.float32]:
    prepared = [prepare(Image.fromarray(image))[None] for image in shown]
    return np.concatenate(
        [np.asarray(_session().run(None, {"input": p})[0], np.float32) for p in prepared]
    )


@cache
def concept() -> NDArray[np.float32]:
    """Return the features of the images that are trained on."""
    return features(read(images("faces")))


def distance(drawn: NDArray[np.uint8]) -> float:
    """Return how far images are from her: 1 - cosine to the nearest of her training images,
    mean over all.
    """
    return float(1 - (features(drawn) @ concept().T).max(axis=1).mean())


def drift(drawn: NDArray[np.uint8], before: NDArray[np.uint8]) -> float:
    """Return how far images are from others, pair by pair: 1 - cosine of their features, mean
    over all.
    """
    return float(1 - (features(drawn) * features(before)).sum(axis=1).mean())


def shaded(shown: NDArray[np.uint8]) -> float:
    """Return in which part of the images sunglasses are worn: most of what lies over the eyes is
    nearly black.
    """
    black = shown[:, 26:33, 26:48].max(axis=3) < 80
    return float((black.mean(axis=(1, 2)) > 0.7).mean())


def prompts(*words: str, scenes: Sequence[str] = SCENES) -> list[str]:
    """Return the scenes, with words before them."""
    return [", ".join([*words, "1girl", scene]) for scene in scenes]


def of_others(scenes: Sequence[str] = SCENES) -> list[str]:
    """Return the scenes with somebody else in each."""
    return [f"1girl, {other}, {scene}" for other, scene in zip(OTHERS, scenes, strict=False)]


def drawn_by(
    parts: Parts,
    *,
    scenes: Sequence[str] = SCENES,
    seed: int = SEED,
    guidance: float = draw.GUIDANCE,
) -> Drawn:
    """Draw all scenes in all ways."""
    ways = (
        prompts(TRIGGER, scenes=scenes),
        prompts(scenes=scenes),
        prompts(TRIGGER, SHADES, scenes=scenes),
    )
    texts = (*ways, of_others(scenes))
    return Drawn(*(draw.draw(parts, each, seed=seed, guidance=guidance) for each in texts))


def measured(parts: Parts, drawn: Drawn, before: Drawn) -> Numbers:
    """Return the numbers of a model. before: what the base draws."""
    return Numbers(
        held_out_loss=loss_on(parts, images("held-out")),
        with_trigger=distance(drawn.named),
        without_trigger=distance(drawn.unnamed),
        drift=drift(drawn.others, before.others),
        drift_pixels=float(np.abs(drawn.others.astype(int) - before.others).mean()),
        shades_alone=shaded(drawn.named),
        shades_asked=shaded(drawn.with_shades),
    )


VARIANTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "with reg set": {},
    "without reg set": {"reg": False},
    "sunglasses kept": {"keep": (SHADES,)},
}

# The contact sheet, in pixels.
_SIDE: Final = 96  # of an image
_GAP: Final = 3
_BETWEEN: Final = 14  # two groups
_LEFT, _TOP = 74, 26  # for the names of rows and groups
_SHOWN: Final = (1, 8, 12)  # of SCENES


def contact_sheet(moments: Mapping[str, Path | None]) -> Image.Image:
    """Draw a row for each moment, and in it the base, the LoRA without the trigger and the LoRA
    with it.
    """
    scenes = [SCENES[n] for n in _SHOWN]
    rows = [_row(file, scenes) for file in moments.values()]
    groups = ("the base", "the LoRA without the trigger", "the LoRA with the trigger")
    pitch, group = _SIDE + _GAP, len(scenes) * (_SIDE + _GAP) + _BETWEEN
    size = (_LEFT + len(groups) * group - _BETWEEN, _TOP + len(rows) * pitch)
    made = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(made), ImageFont.load_default(14)
    for place, title in enumerate(groups):
        pen.text((_LEFT + place * group, 4), title, "black", font)
    for y, name, (unnamed, named) in zip(range(_TOP, size[1], pitch), moments, rows, strict=True):
        pen.text((4, y + _SIDE // 2 - 8), name, "black", font)
        for place, shown in enumerate((rows[0][0], unnamed, named)):
            for n, cell in enumerate(shown):
                image = Image.fromarray(cell).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
                made.paste(image, (_LEFT + place * group + n * pitch, y))
    return made


def _row(file: Path | None, scenes: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw scenes without the trigger and with it, of the same noise in each row."""
    with with_lora(file) as parts:
        unnamed, named = (
            draw.draw(parts, prompts(*words, scenes=scenes), seed=SEED)
            for words in ((), (TRIGGER,))
        )
    return unnamed, named


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.tiny_lora", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--only", action="append", choices=VARIANTS, help="one of the LoRAs, as often as you like"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=NUMBER", help="an option of [train]"
    )
    parser.add_argument("--again", action="store_true", help="measure the LoRAs that are in OUT")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    others = {name: json.loads(value) for name, value in (pair.split("=") for pair in asked.set)}
    files = {
        name: _files(asked.out / name.replace(" ", "-"), name, others, asked.again)
        for name in asked.only or VARIANTS
    }
    with with_lora(None) as parts:
        before = drawn_by(parts)
        table = {"base": asdict(measured(parts, before, before))}
        noise = draw.draw(parts, of_others(), seed=SEED + 1000)
    scale = {
        "her held-out images": distance(read(images("held-out"))),
        "the girls": distance(read(images("girls"))),
        "drift by other noise": drift(noise, before.others),
    }
    print(json.dumps({name: round(number, 3) for name, number in scale.items()}), flush=True)
    _keep(asked.out, "base", before, table["base"])
    for name, saved in files.items():
        with with_lora(saved[-1]) as parts:
            drawn = drawn_by(parts)
            table[name] = asdict(measured(parts, drawn, before))
        _keep(asked.out, name, drawn, table[name])
    (asked.out / "table.json").write_text(
        json.dumps({**table, "scale": scale}, indent=1), encoding="utf-8"
    )
    every = next(iter(files.values()))
    epochs = sorted({max(1, round(len(every) / 2**n)) for n in range(4)})
    sheet = contact_sheet({"before": None, **{f"epoch {n}": every[n - 1] for n in epochs}})
    sheet.save(asked.out / "contact-sheet.jpg", quality=90)


def _files(folder: Path, name: str, others: Mapping[str, Any], again: bool) -> tuple[Path, ...]:
    """Return the files of a LoRA, one an epoch; trained first, or those of the last run."""
    if again:
        return tuple(saved_files(folder / "out", TRIGGER))
    shutil.rmtree(folder, ignore_errors=True)
    made = learn(data_set(folder / "data", **VARIANTS[name]), recipe(folder / "out", **others))
    print(f"{name}: {made.steps} steps, {made.seconds:.0f} s", flush=True)
    return made.files


def _keep(out: Path, name: str, drawn: Drawn, numbers: Mapping[str, float]) -> None:
    for way, shown in asdict(drawn).items():
        draw.grid(shown, 10).save(out / f"{name.replace(' ', '-')}-{way}.png")
    print(name, json.dumps({k: round(v, 3) for k, v in numbers.items()}), flush=True)


if __name__ == "__main__":
    main()
