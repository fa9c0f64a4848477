"""Writing the tiny base as a diffusers folder in half precision: `python -m
trainer.tools.tinybase.package WORK FOLDER`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import diffusers
from safetensors.torch import load_file

from datasetkit.core.files import file_sha256, write_atomic
from trainer.tools.tinybase import model
from trainer.tools.tinybase.draw import scheduler
from trainer.tools.tinybase.train import SEED

_FROM_DIFFUSERS = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "scheduler": "DDIMScheduler",
}
_FROM_TRANSFORMERS = {"text_encoder": "CLIPTextModel", "tokenizer": "CLIPTokenizer"}
_NONE = ("safety_checker", "feature_extractor", "image_encoder")


def write(trained: Path, folder: Path) -> None:
    """Write the parts of `trained` (float32) to `folder`, as diffusers reads them.

    The tokenizer is CLIP's own, which the package has already; diffusers' pipeline is given it
    (docs/tiny-base.md).
    """
    names = ("unet", "text_encoder", "vae")
    for name, part in zip(names, model.parts(SEED), strict=True):
        part.load_state_dict(load_file(trained / f"{name}.safetensors"))
        part.half().save_pretrained(folder / name)
    scheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        **{name: ["diffusers", kind] for name, kind in _FROM_DIFFUSERS.items()},
        **{name: ["transformers", kind] for name, kind in _FROM_TRANSFORMERS.items()},
        **{name: [None, None] for name in _NONE},
        "requires_safety_checker": False,
    }
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes them for their owner alone
    write_atomic(folder / "model_index.json", f"{json.dumps(index, indent=2)}\n".encode())


def main(arguments: list[str]) -> int:
    """Write the folder, and say the sha256 of its weights."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.tools.tinybase.package", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument(
        "work", type=Path, metavar="WORK", help="the folder that the base was made in"
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where it is written")
    given = parser.parse_args(arguments)
    write(given.work / "parts", given.folder)
    for path in sorted(given.folder.rglob("*.safetensors")):
        digest = file_sha256(path)
        sys.stdout.write(
            f"{path.relative_to(given.folder)} {path.stat().st_size:,} bytes, sha256 {digest}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
