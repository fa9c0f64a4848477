"""What the families of diffusion transformers have in common: their files, layers and LoRA files.

A family takes these functions as its own. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datasetkit.core.progress import SILENT, Reporter
from trainer.families import dit_names
from trainer.families.base import LoraFormat, Part, Parts, Shapes
from trainer.families.model_files import transformer_alone
from trainer.lora_files.dit_exports import DitExports

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasetkit.options.networks import NetworkArgs
    from trainer.networks.network import Lora

DENOISER: Final[Part] = "transformer"
DIVISOR: Final = 16  # pixels of a token: 8 of the VAE, 2 of the patches
_SNR: Final = (
    "a flow model's loss has the same weight at every time, and no trainer weights it by SNR"
)
_VELOCITY: Final = "a flow model always predicts the velocity from image to noise"
_BRIGHTNESS: Final = (
    "a flow model is trained up to pure noise, so it learns brightness without changed noise"
)
_LAYER: Final = "the layer of the text encoder is part of the model"
# Option -> why a flow-matching transformer refuses it.
REFUSES: Final[Mapping[str, str]] = {
    "min_snr_gamma": _SNR,
    "debiased_estimation_loss": _SNR,
    "scale_v_pred_loss_like_noise_pred": _SNR,
    "v_pred_like_loss": _SNR,
    "v_parameterization": _VELOCITY,
    "zero_terminal_snr": "a flow model has pure noise at its last time already",
    "noise_offset": _BRIGHTNESS,
    "adaptive_noise_scale": _BRIGHTNESS,
    "multires_noise_iterations": _BRIGHTNESS,
    "clip_skip": _LAYER,
    "max_token_length": "it reads longer captions in any case",
    "text_encoder_lr": "its text encoder is not trained",
    "network_train_text_encoder_only": "its text encoder is not trained",
    "weighted_captions": "weights in brackets are known to CLIP's text encoders only",
}


# A note for the plan.
DISTILLED_UNKNOWN: Final = (
    "the file of the base model does not say whether it is distilled to few steps: train on {}"
)


def names_of(source: Path) -> str:
    """Return the names that a model goes by: its folder's or file's, and its repository's in the
    hub's cache, lower case.
    """
    cached = [part for part in source.parts if part.startswith("models--")]
    return " ".join((source.name, *cached)).lower()


def block(name: str) -> int | None:
    """Return the number of the block that a layer is in, among those of its kind."""
    return dit_names.block_number(name)


def token_counter(source: Path, folder: str = "tokenizer") -> Callable[[str], int]:
    """Return a function that counts a caption's tokens. folder: of the tokenizer in the model."""

    @cache
    def tokenizer() -> Any:
        from trainer.families.dit_files import load_tokenizer

        return load_tokenizer(source / folder)

    return lambda caption: len(tokenizer()(caption).input_ids)


def network_problem(args: NetworkArgs) -> str:
    """Return why a network cannot be trained on a transformer; "" if it can."""
    if args.algo != "lora" or args.dora:
        name = "DoRA" if args.algo == "lora" else args.title
        return f"{name} is not trained on transformers: no names that other programs read are known"
    if args.convolutions:
        return "a transformer has no convolutional blocks for conv_dim"
    return ""


def padded_ids(tokenizer: Any, captions: Sequence[str], length: int) -> Tensor:
    """Return the token ids of captions, [captions, length], cut off and padded to a length."""
    tokens = tokenizer(
        list(captions), padding="max_length", max_length=length, truncation=True,
        return_tensors="pt",
    )  # fmt: skip
    ids: Tensor = tokens.input_ids
    return ids


def load(
    family: str,
    kinds: Mapping[Part, str],
    tokenizers: Mapping[Part, str],
    base: str,
    *,
    revision: str = "",
    vae: str = "",
    folder: Path | None = None,
    dtype: torch.dtype | None = None,
    only: Collection[Part] = (),
    int8: bool = False,
    reporter: Reporter = SILENT,
) -> Parts:
    """Load a diffusers folder, or a transformer's file and the other parts from `folder`, frozen,
    on the CPU. Raises ModelFileError, ConfigError.

    kinds: the class of each part, of diffusers or transformers; all but the transformer and the VAE
    are encoders. tokenizers: encoder -> its tokenizer's folder. vae: a folder with another VAE of
    the same class. dtype: of all parts but the VAE, which is loaded in float32; None: float32.
    only, int8: see `Family.load`.
    """
    import torch

    from trainer.families.dit_files import VAE, load_parts, load_transformer
    from trainer.families.source import find

    source = find(base, revision)
    file = None if source.is_dir() else source
    others = source if file is None else folder
    if others is None:
        raise transformer_alone(source)
    chosen = dtype or torch.float32
    kinds = {part: kind for part, kind in kinds.items() if not only or part in only}
    models, loaded = load_parts(
        others,
        {part: kind for part, kind in kinds.items() if file is None or part != DENOISER},
        list(tokenizers.values()),
        dtype=chosen,
        int8=DENOISER if int8 else "",
        reporter=reporter,
    )
    if file is not None and DENOISER in kinds:
        reporter.phase(f"loading the base model: {file.name}")
        models[DENOISER] = load_transformer(file, kinds[DENOISER], others, chosen)
    if vae and VAE in kinds:
        models[VAE] = _other_vae(find(vae), kinds[VAE], reporter)
    encoders = [name for name in models if name not in (DENOISER, VAE)]
    return Parts(
        models.get(DENOISER),
        models.get(VAE),
        {name: models[name] for name in encoders},
        source,
        family,
        denoiser_name=DENOISER,
        prediction="flow",
        tokenizers={part: loaded[name] for part, name in tokenizers.items()},
    )


def _other_vae(path: Path, kind: str, reporter: Reporter) -> Any:
    """Load a VAE from its folder, or from that of a model."""
    import torch

    from trainer.families.dit_files import VAE, load_parts

    folder = path.parent if path.name == VAE else path
    models, _ = load_parts(folder, {VAE: kind}, [], dtype=torch.float32, reporter=reporter)
    return models[VAE]


def targets(parts: Parts, part: Part, exports: DitExports) -> dict[str, str]:
    """Return name -> path of the attention and MLP layers of the main blocks."""
    from trainer.families import dit_lora

    return dit_lora.targets(parts.denoiser, exports) if part == DENOISER else {}


def convolutions(parts: Parts) -> dict[str, str]:
    """Return nothing: a transformer has no convolutional blocks."""
    return {}


def unreachable(parts: Parts, clip_skip: int) -> frozenset[str]:
    """Return nothing: a gradient reaches every target."""
    return frozenset()


def export(
    network: Lora, dtype: torch.dtype, form: LoraFormat, exports: DitExports
) -> tuple[dict[str, Tensor], Mapping[str, str] | None]:
    """Return a network's tensors under the names of a format, with the metadata of the run."""
    from trainer.families import dit_lora

    return dit_lora.export(network, exports, dtype, form), None


def restore(tensors: Mapping[str, Tensor], exports: DitExports) -> dict[str, Tensor]:
    """Return the tensors of a file by the names of `targets`."""
    from trainer.families import dit_lora

    return dit_lora.restore(tensors, exports)


def restored_shapes(shapes: Shapes, exports: DitExports) -> Shapes:
    """Return what `restore` returns, from the shapes of a file's tensors alone."""
    from trainer.families import dit_lora

    return dit_lora.restored_shapes(shapes, exports)


def reload(loader: str, path: Path, plain: Parts, trained: Sequence[Part], adapter: str) -> None:
    """Load a LoRA file with a class of diffusers' LoRA loaders."""
    from trainer.families import dit_lora

    dit_lora.reload(loader, path, plain.denoiser, adapter)
