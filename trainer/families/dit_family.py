"""What the families of diffusion transformers have in common: their files, layers and LoRA files.

A family is a subclass that says the rest, and one instance of it without state. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.progress import SILENT, Reporter
from trainer.families import autoencoders, dit_names, dit_shapes
from trainer.families.base import (
    Anatomy,
    BlockList,
    FamilyName,
    FamilyNames,
    FileMarks,
    FlowDefaults,
    LoraFormat,
    Part,
    Parts,
    Predicts,
    ProcessName,
    Shapes,
)
from trainer.families.model_files import transformer_alone
from trainer.lora_files.dit_exports import DitExports

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasetkit.options.networks import NetworkArgs
    from datasetkit.options.train import TrainOptions
    from trainer.networks.network import Lora

DENOISER: Final[Part] = "transformer"
_SNR: Final = (
    "a flow model's loss has the same weight at every time, and no trainer weights it by SNR"
)
_VELOCITY: Final = "a flow model always predicts the velocity from image to noise"
_BRIGHTNESS: Final = (
    "a flow model is trained up to pure noise, so it learns brightness without changed noise"
)
_LAYER: Final = "the layer of the text encoder is part of the model"
# Option -> why a flow-matching transformer refuses it.
_REFUSES: Final[Mapping[str, str]] = {
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


def padded_ids(tokenizer: Any, captions: Sequence[str], length: int) -> Tensor:
    """Return the token ids of captions, [captions, length], cut off and padded to a length."""
    tokens = tokenizer(
        list(captions), padding="max_length", max_length=length, truncation=True,
        return_tensors="pt",
    )  # fmt: skip
    ids: Tensor = tokens.input_ids
    return ids


def _file_and_folder(source: Path, folder: Path | None) -> tuple[Path | None, Path]:
    """Return the file of the transformer, None for that in the folder, and the folder of the other
    parts. Raises ModelFileError.
    """
    if source.is_dir():
        return None, source
    if folder is None:
        raise transformer_alone(source)
    return source, folder


def _other_vae(path: Path, kind: str, reporter: Reporter) -> Any:
    """Load a VAE from its folder, or from that of a model."""
    import torch

    from trainer.families.dit_files import VAE, load_parts

    folder = path.parent if path.name == VAE else path
    models, _ = load_parts(folder, {VAE: kind}, [], dtype=torch.float32, reporter=reporter)
    return models[VAE]


class TransformerFamily:
    """A family of transformers, but for what `Family` has beside this: NAME, TITLE, MARKS, FLOW,
    FORMATS, `inspect`, `encode_text` and `predict`.

    KINDS: part -> the class of diffusers or transformers, of all parts but the transformer, whose
    class is that of MARKS; all but the VAE are encoders. IN_FILE: encoder of diffusers -> what its
    names begin with in a transformer's file, which may have it. TOKENIZERS: encoder -> its
    tokenizer's folder; COUNTED: the encoder whose tokens are counted. HIDDEN_STATES: of a token in
    the conditioning; PADDED: it has TEXT_LIMIT tokens of every caption. EXPORTS: of its LoRA files;
    LOADER: diffusers' class that loads them; METADATA: its names in them. Latents are those of
    Flux.1's VAE.
    """

    NAME: FamilyName
    TITLE: str
    MARKS: FileMarks
    FLOW: FlowDefaults | None
    FORMATS: tuple[LoraFormat, ...]
    KINDS: Mapping[Part, str]
    IN_FILE: Mapping[Part, str] = {}
    TOKENIZERS: Mapping[Part, str] = {"text_encoder": "tokenizer"}
    COUNTED: Part = "text_encoder"
    EXPORTS: DitExports
    LOADER: str
    METADATA: FamilyNames

    PROCESS: ProcessName = "flow"
    DENOISER: Part = DENOISER
    ENCODERS: tuple[Part, ...] = ("text_encoder",)
    EXTRA: tuple[Part, ...] = ()
    TRAINS_TEXT = False
    FILE_PARTS: Mapping[Part, str] = {}
    PREDICTION: Predicts | None = "flow"
    LATENT_SCALE: float | None = None
    DIVISOR = 16  # pixels of a token: 8 of the VAE, 2 of the patches
    TEXT_LIMIT = 512
    HIDDEN_STATES = 1
    PADDED = False
    CLIP_SKIP = False
    BLOCKS = BlockList()
    REFUSES = _REFUSES

    moments = staticmethod(autoencoders.moments)
    decode = staticmethod(autoencoders.decode)
    normalise = staticmethod(autoencoders.shifted)
    denormalise = staticmethod(autoencoders.unshifted)
    latent_shape = staticmethod(autoencoders.latent_shape)

    def anatomy(self, shapes: Mapping[Part, Shapes]) -> Anatomy:
        """Return the layers of a model from the shapes of its tensors."""
        return dit_shapes.anatomy(shapes, self.EXPORTS.names)

    def block(self, name: str) -> int | None:
        """Return the number of the block that a layer is in, among those of its kind."""
        return dit_names.block_number(name)

    def token_counter(self, source: Path) -> Callable[[str], int]:
        """Return a function that counts the tokens that a caption takes of TEXT_LIMIT."""

        @cache
        def tokenizer() -> Any:
            from trainer.families.dit_files import load_tokenizer

            return load_tokenizer(source / self.TOKENIZERS[self.COUNTED])

        return lambda caption: self.count_tokens(tokenizer(), caption, source)

    def count_tokens(self, tokenizer: Any, caption: str, folder: Path) -> int:
        """Return the tokens that a caption takes of TEXT_LIMIT, with those around it that count.
        folder: with the tokenizer.
        """
        return len(tokenizer(caption).input_ids)

    def conditioning_values(
        self, widths: Mapping[Part, int], tokens: int, options: TrainOptions
    ) -> int:
        """Return how many values the conditioning of a caption has."""
        length = self.TEXT_LIMIT if self.PADDED else min(tokens, self.TEXT_LIMIT)
        return length * self.HIDDEN_STATES * widths.get(self.COUNTED, 0)

    def remarks(self, options: TrainOptions) -> Sequence[str]:
        """Return no warnings."""
        return ()

    def check_network(self, args: NetworkArgs, /) -> None:
        """Raise ConfigError for a network that cannot be trained on a transformer."""
        lora = 'set network_module = "networks.lora"'
        if args.algo != "lora" or args.dora:
            name = "DoRA" if args.algo == "lora" else args.title
            why = "no names that other programs read are known"
            raise ConfigError(
                f"{name} is not trained on transformers: {why}",
                hint="take dora_wd out of network_args" if args.algo == "lora" else lora,
            )
        if args.norms:
            raise ConfigError(
                "train_norm is not supported on transformers: their norms have no weights, or are "
                "RMSNorms, which LyCORIS does not train",
                hint="take train_norm out of network_args",
            )
        if args.convolutions:
            raise ConfigError(
                "a transformer has no convolutional blocks for conv_dim",
                hint=f"{lora}, and take conv_dim out of network_args",
            )

    def metadata_names(self, prediction: Predicts) -> FamilyNames:
        """Return the family's names in LoRA metadata."""
        return self.METADATA

    def kinds(self, folder: Path) -> Mapping[Part, str]:
        """Return the class of each part. folder: with the text encoders."""
        return {DENOISER: self.MARKS.class_name, **self.KINDS}

    def prepare(self, denoiser: Any) -> None:
        """Change what diffusers cannot run as it is; nothing here."""

    def load(
        self,
        base: str,
        *,
        revision: str = "",
        vae: str = "",
        folder: Path | None = None,
        prediction: Predicts | None = None,
        dtype: torch.dtype | None = None,
        only: Collection[Part] = (),
        int8: bool = False,
        reporter: Reporter = SILENT,
    ) -> Parts:
        """Load a diffusers folder, or a transformer's file and the other parts from `folder`,
        frozen, on the CPU. Raises ModelFileError, ConfigError.

        vae: a folder with another VAE of the same class. dtype: of all parts but the VAE, which is
        loaded in float32; None: float32. only, int8: see `Family.load`.
        """
        import torch

        from trainer.families.dit_files import VAE, load_parts, load_transformer
        from trainer.families.source import find

        source = find(base, revision)
        file, others = _file_and_folder(source, folder)
        chosen = dtype or torch.float32
        all_kinds = self.kinds(others)
        kinds = {part: kind for part, kind in all_kinds.items() if not only or part in only}
        of_file = {} if file is None else self._beside_transformer(file, others, kinds, chosen)
        elsewhere = {DENOISER, *of_file} if file is not None else ()
        models, loaded = load_parts(
            others,
            {part: kind for part, kind in kinds.items() if part not in elsewhere},
            list(self.TOKENIZERS.values()),
            dtype=chosen,
            int8=DENOISER if int8 else "",
            reporter=reporter,
        )
        models |= of_file
        if file is not None and DENOISER in kinds:
            reporter.phase(f"loading the base model: {file.name}")
            models[DENOISER] = load_transformer(file, kinds[DENOISER], others, chosen)
        if vae and VAE in kinds:
            models[VAE] = _other_vae(find(vae), kinds[VAE], reporter)
        if DENOISER in models:
            self.prepare(models[DENOISER])
        encoders = [name for name in models if name not in (DENOISER, VAE)]
        return Parts(
            models.get(DENOISER),
            models.get(VAE),
            {name: models[name] for name in encoders},
            source,
            self.NAME,
            denoiser_name=DENOISER,
            prediction="flow",
            tokenizers={part: loaded[name] for part, name in self.TOKENIZERS.items()},
        )

    def _beside_transformer(
        self, file: Path, folder: Path, kinds: Mapping[Part, str], dtype: torch.dtype
    ) -> dict[Part, Any]:
        """Return the encoders of these kinds that the file of a transformer has."""
        from trainer.families.dit_files import load_beside_transformer

        loaded = {
            part: load_beside_transformer(file, prefix, kinds[part], folder / part, dtype)
            for part, prefix in self.IN_FILE.items()
            if part in kinds
        }
        return {part: model for part, model in loaded.items() if model is not None}

    def targets(self, parts: Parts, part: Part) -> dict[str, str]:
        """Return name -> path of the attention and MLP layers of the main blocks."""
        from trainer.families import dit_lora

        return dit_lora.targets(parts.denoiser, self.EXPORTS) if part == DENOISER else {}

    def convolutions(self, parts: Parts) -> dict[str, str]:
        """Return nothing: a transformer has no convolutional blocks."""
        return {}

    def norms(self, parts: Parts, *, convolutional: bool) -> dict[str, str]:
        """Return nothing: see `check_network`."""
        return {}

    def unreachable(self, parts: Parts, clip_skip: int) -> frozenset[str]:
        """Return nothing: a gradient reaches every target."""
        return frozenset()

    def export(
        self, network: Lora, dtype: torch.dtype, form: LoraFormat
    ) -> tuple[dict[str, Tensor], Mapping[str, str] | None]:
        """Return a network's tensors under the names of a format, with the metadata of the run."""
        from trainer.families import dit_lora

        return dit_lora.export(network, self.EXPORTS, dtype, form), None

    def restore(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a file by the names of `targets`."""
        from trainer.families import dit_lora

        return dit_lora.restore(tensors, self.EXPORTS)

    def restored_shapes(self, shapes: Shapes) -> Shapes:
        """Return what `restore` returns, from the shapes of a file's tensors alone."""
        from trainer.families import dit_lora

        return dit_lora.restored_shapes(shapes, self.EXPORTS)

    def reload(self, path: Path, plain: Parts, trained: Sequence[Part], adapter: str) -> None:
        """Load a LoRA file with diffusers' LoRA loader."""
        from trainer.families import dit_lora

        dit_lora.reload(self.LOADER, path, plain.denoiser, adapter)


class FrameLatents:
    """The latents of Qwen-Image's VAE, which takes an image as a video of one frame; before
    `TransformerFamily` among the bases of a family.
    """

    moments = staticmethod(autoencoders.moments_of_frame)
    decode = staticmethod(autoencoders.decode_frame)
    normalise = staticmethod(autoencoders.standardised)
    denormalise = staticmethod(autoencoders.destandardised)

    @staticmethod
    def latent_shape(vae: Any, width: int, height: int) -> tuple[int, int, int]:
        """Return the shape of an image's latent: channels, height, width."""
        return vae.config.z_dim, height // 8, width // 8
