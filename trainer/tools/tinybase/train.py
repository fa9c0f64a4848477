"""Making the tiny base: `python -m trainer.tools.tinybase.train WORK` draws its images and trains
it, stage by stage.

What a stage made stays in WORK, so that a run that was killed goes on; the same seed makes the same
base. Needs the extra `tinybase`, and about an hour on two cores of a CPU (`torchrun
--nproc-per-node 2 -m ...` takes both).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, nn

from trainer.tools.tinybase import autoencoder, beginning, denoise, draw, model, text
from trainer.tools.tinybase.render import RenderedImages, kept
from trainer.tools.tinybase.resumable_training import TrainingStage, crew, follow

SEED: Final = 0
# name -> (kind, images, seed). Held out: pairs of hair and background that the base never sees.
SETS: Final = {
    "other": ("other", 5_000, 0),
    "train": ("seen", 24_000, 0),
    "held": ("unseen", 1_000, 1),
    "any": ("any", 4_000, 2),
}


COURSES: Final[Mapping[str, TrainingStage]] = {
    "text": TrainingStage("text", 600, 2e-3, SEED),
    "vae": TrainingStage("vae", 1000, 1e-3, SEED, warmup=50),
    "base": TrainingStage("base", 2000, 1e-3, SEED, ema=0.998),
}


def images(work: Path, name: str) -> RenderedImages:
    """Return one of the sets, drawn first where it is not in `work`."""
    kind, count, seed = SETS[name]
    return kept(work, name, kind, count, seed)  # type: ignore[arg-type]  # the kinds are written above


def make(work: Path, courses: Mapping[str, TrainingStage]) -> Path:
    """Go through all stages; return the folder of the trained parts, in float32."""
    torch.set_flush_denormal(True)
    work.mkdir(parents=True, exist_ok=True)
    unet, encoder, vae = model.parts(SEED)
    model.quicker(unet, encoder)
    rank, size = crew()
    if rank:
        distributed.barrier()  # the first process makes what comes before the base
    encoder = _text(work, courses["text"], encoder)
    vae = _vae(work, courses["vae"], vae)
    portraits = images(work, "train")
    latents = autoencoder.encode(vae, portraits.pixels, work / "latents.safetensors")
    if size > 1 and not rank:
        distributed.barrier()
    learner = nn.ModuleDict({"unet": unet.to(memory_format=torch.channels_last)})
    held = [", ".join(tags) for tags in images(work, "held").tags]

    def look(step: int, average: Any) -> None:
        average.eval()
        parts = draw.parts_of(average["unet"], vae, encoder)
        drawn = draw.draw(parts, held[:16], steps=20)
        draw.grid(drawn, 8).save(work / f"base-{step:05d}.png")

    loss = denoise.loss(courses["base"], unet, encoder, latents, portraits.tags)
    trained = follow(courses["base"], learner, loss, work, look=look, look_every=400, together=True)
    out = work / "parts"
    if rank:
        return out
    out.mkdir(exist_ok=True)
    for name, part in {"unet": trained["unet"], "text_encoder": encoder, "vae": vae}.items():
        save_file(
            {k: v.contiguous() for k, v in part.state_dict().items()}, out / f"{name}.safetensors"
        )
    return out


def _text(work: Path, course: TrainingStage, encoder: Any) -> Any:
    path = work / "text.safetensors"
    if path.is_file():
        encoder.load_state_dict(load_file(path))
        return encoder
    tags = images(work, "train").tags
    asked = text.heads(text.vocabulary(tags))
    both = nn.ModuleDict({"encoder": encoder, "heads": asked})
    trained: Any = follow(course, both, text.loss(course, encoder, asked, tags), work)["encoder"]
    save_file(trained.state_dict(), path)
    return trained


def _vae(work: Path, course: TrainingStage, vae: Any) -> Any:
    path = work / "vae.safetensors"
    if path.is_file():
        vae.load_state_dict(load_file(path))
        return vae.eval()
    portraits, others = images(work, "train").pixels, images(work, "other").pixels
    beginning.begin(vae, np.concatenate([portraits[:1500], others[:500]]))
    learner = nn.ModuleDict({"vae": vae.to(memory_format=torch.channels_last)})
    trained: Any = follow(course, learner, autoencoder.loss(course, vae, portraits, others), work)[
        "vae"
    ]
    autoencoder.settle(trained, portraits[:2000])
    save_file({k: v.contiguous() for k, v in trained.state_dict().items()}, path)
    shown = np.concatenate([images(work, "held").pixels[:8], others[:8]])
    draw.grid(np.concatenate([shown, there_and_back(trained, shown)]), 16).save(work / "vae.png")
    return trained


@torch.no_grad()
def there_and_back(vae: Any, shown: Any) -> Any:
    """Return what the VAE makes of images, as images."""
    back = vae.decode(vae.encode(autoencoder.pixels(shown)).latent_dist.mean).sample
    return ((back / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def main(arguments: list[str]) -> int:
    """Make the base, or go on making it."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.tools.tinybase.train", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "work", type=Path, metavar="WORK", help="a folder for images, states, log and result"
    )
    for name, course in COURSES.items():
        parser.add_argument(
            f"--{name}-steps", type=int, default=course.steps, help=f"(default: {course.steps})"
        )
    given = parser.parse_args(arguments)
    chosen = {n: replace(c, steps=getattr(given, f"{n}_steps")) for n, c in COURSES.items()}
    given.work.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(f"{make(given.work, chosen)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
