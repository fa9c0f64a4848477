"""Make the tiny base: `python -m trainer.tools.tinybase.train WORK` renders its images and trains
it.

Each stage saves its result in WORK, so that a killed run can be resumed; the same seed gives the
same base. Needs the extra `tinybase`, and about an hour on two CPU cores (`torchrun
--nproc-per-node 2 -m ...` uses both).
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

from trainer.tools.tinybase import autoencoder, denoise, draw, linear_init, model, text
from trainer.tools.tinybase.render import RenderedImages, kept
from trainer.tools.tinybase.resumable_training import TrainingStage, launched_processes, train_stage

SEED: Final = 0
# name -> (kind, images, seed). "held": pairs of hair and background that are not trained.
SETS: Final = {
    "other": ("other", 5_000, 0),
    "train": ("seen", 24_000, 0),
    "held": ("unseen", 1_000, 1),
    "any": ("any", 4_000, 2),
}


STAGES: Final[Mapping[str, TrainingStage]] = {
    "text": TrainingStage("text", 600, 2e-3, SEED),
    "vae": TrainingStage("vae", 1000, 1e-3, SEED, warmup=50),
    "base": TrainingStage("base", 2000, 1e-3, SEED, ema=0.998),
}


def images(work: Path, name: str) -> RenderedImages:
    """Return one of the sets, rendered first if it is not in `work`."""
    kind, count, seed = SETS[name]
    return kept(work, name, kind, count, seed)  # type: ignore[arg-type]  # the kinds are written above


def make(work: Path, stages: Mapping[str, TrainingStage]) -> Path:
    """Run all stages; return the folder of the trained parts, in float32."""
    torch.set_flush_denormal(True)
    work.mkdir(parents=True, exist_ok=True)
    unet, encoder, vae = model.parts(SEED)
    model.use_plain_attention(unet, encoder)
    rank, size = launched_processes()
    if rank:
        distributed.barrier()  # the first process runs the stages before the base
    encoder = _text(work, stages["text"], encoder)
    vae = _vae(work, stages["vae"], vae)
    portraits = images(work, "train")
    latents = autoencoder.encode(vae, portraits.pixels, work / "latents.safetensors")
    if size > 1 and not rank:
        distributed.barrier()
    learner = nn.ModuleDict({"unet": unet.to(memory_format=torch.channels_last)})
    held = [", ".join(tags) for tags in images(work, "held").tags]

    def preview(step: int, average: Any) -> None:
        average.eval()
        parts = draw.parts_of(average["unet"], vae, encoder)
        drawn = draw.draw(parts, held[:16], steps=20)
        draw.grid(drawn, 8).save(work / f"base-{step:05d}.png")

    loss = denoise.loss(stages["base"], unet, encoder, latents, portraits.tags)
    trained = train_stage(
        stages["base"], learner, loss, work, preview=preview, preview_every=400, together=True
    )
    out = work / "parts"
    if rank:
        return out
    out.mkdir(exist_ok=True)
    for name, part in {"unet": trained["unet"], "text_encoder": encoder, "vae": vae}.items():
        save_file(
            {k: v.contiguous() for k, v in part.state_dict().items()}, out / f"{name}.safetensors"
        )
    return out


def _text(work: Path, stage: TrainingStage, encoder: Any) -> Any:
    path = work / "text.safetensors"
    if path.is_file():
        encoder.load_state_dict(load_file(path))
        return encoder
    tags = images(work, "train").tags
    asked = text.heads(text.vocabulary(tags))
    both = nn.ModuleDict({"encoder": encoder, "heads": asked})
    trained: Any = train_stage(stage, both, text.loss(stage, encoder, asked, tags), work)["encoder"]
    save_file(trained.state_dict(), path)
    return trained


def _vae(work: Path, stage: TrainingStage, vae: Any) -> Any:
    path = work / "vae.safetensors"
    if path.is_file():
        vae.load_state_dict(load_file(path))
        return vae.eval()
    portraits, others = images(work, "train").pixels, images(work, "other").pixels
    linear_init.initialize(vae, np.concatenate([portraits[:1500], others[:500]]))
    learner = nn.ModuleDict({"vae": vae.to(memory_format=torch.channels_last)})
    trained: Any = train_stage(
        stage, learner, autoencoder.loss(stage, vae, portraits, others), work
    )["vae"]
    autoencoder.scale_latents(trained, portraits[:2000])
    save_file({k: v.contiguous() for k, v in trained.state_dict().items()}, path)
    shown = np.concatenate([images(work, "held").pixels[:8], others[:8]])
    draw.grid(np.concatenate([shown, reconstructed(trained, shown)]), 16).save(work / "vae.png")
    return trained


@torch.no_grad()
def reconstructed(vae: Any, shown: Any) -> Any:
    """Encode and decode images with the VAE."""
    back = vae.decode(vae.encode(autoencoder.pixels(shown)).latent_dist.mean).sample
    return ((back / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def main(arguments: list[str]) -> int:
    """Make the base, or resume making it."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.tools.tinybase.train", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "work", type=Path, metavar="WORK", help="a folder for images, states, log and result"
    )
    for name, stage in STAGES.items():
        parser.add_argument(
            f"--{name}-steps", type=int, default=stage.steps, help=f"(default: {stage.steps})"
        )
    given = parser.parse_args(arguments)
    chosen = {n: replace(c, steps=getattr(given, f"{n}_steps")) for n, c in STAGES.items()}
    given.work.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(f"{make(given.work, chosen)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
