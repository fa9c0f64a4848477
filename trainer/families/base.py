"""The interface of a model family, the parts of a loaded model, and the conditioning.

This module and every family's import no torch at load time: a plan asks a family about a model's
files before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast

from datasetkit.core.progress import SILENT, Reporter

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from datasetkit.options.networks import NetworkArgs
    from datasetkit.options.train import TrainOptions
    from trainer.networks.layers import Layer
    from trainer.networks.network import Lora

FamilyName = str
# Tensor name -> shape.
Shapes = Mapping[str, tuple[int, ...]]
# The name of a part of a model, which is its folder's in diffusers: `unet`, `text_encoder_2`, ...
Part = str
# The part that removes the noise. Every model has one of these.
DENOISERS: Final[tuple[Part, ...]] = ("unet", "transformer")
# What messages call a part.
PART_TITLES: Final[Mapping[Part, str]] = {
    "unet": "UNet",
    "transformer": "transformer",
    "vae": "VAE",
    "text_encoder": "text encoder",
    "text_encoder_2": "second text encoder",
}
# What the denoiser predicts: the noise, a velocity (Salimans & Ho 2022), or the noise minus the
# image, which is the velocity of flow matching (Lipman et al. 2023, arXiv:2210.02747).
Predicts = Literal["epsilon", "v_prediction", "flow"]
ProcessName = Literal["ddpm", "flow"]
# The names of a LoRA file's tensors: kohya's, diffusers', or those that ComfyUI reads.
LoraFormat = Literal["kohya", "diffusers", "comfy"]


@dataclass(frozen=True, slots=True)
class Parts:
    """A loaded model, frozen and in eval mode.

    denoiser: a part of `DENOISERS`; denoiser_name: its name. encoders: the text encoders by name,
    in the order of the options' learning rates. extra: further frozen parts that the denoiser
    needs. tokenizers: by the encoders' names. vae: its `encode(x).latent_dist` has a mean and a
    standard deviation. source: the file or folder of the model. prediction: what the denoiser
    predicts, None if unknown.
    """

    denoiser: Any
    vae: Any
    encoders: Mapping[Part, Any]
    source: Path
    family: FamilyName
    denoiser_name: Part = "unet"
    prediction: Predicts | None = None
    extra: Mapping[Part, Any] = field(default_factory=dict)
    tokenizers: Mapping[Part, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[Part, ...]:
        """Return the names of the trainable parts, the denoiser first."""
        return (self.denoiser_name, *self.encoders)

    @property
    def models(self) -> dict[Part, Any]:
        """Return every part but the VAE, by name."""
        return {self.denoiser_name: self.denoiser, **self.encoders, **self.extra}

    @property
    def embeds_guidance(self) -> bool:
        """Tell whether the denoiser is given the guidance, as models are that learned it."""
        return bool(getattr(self.denoiser.config, "guidance_embeds", False))

    def part(self, name: Part) -> nn.Module:
        """Return a part by name."""
        model: nn.Module = self.models[name]
        return model

    def with_models(self, models: Mapping[Part, Any]) -> Parts:
        """Return the model with other modules for some of its parts, by name."""
        return replace(
            self,
            denoiser=models.get(self.denoiser_name, self.denoiser),
            encoders={name: models.get(name, model) for name, model in self.encoders.items()},
            extra={name: models.get(name, model) for name, model in self.extra.items()},
        )


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What the denoiser gets beside the noisy latents and the time, one row per caption.

    states: [captions, tokens, ...] of a text encoder. mask: [captions, tokens] bool, the tokens
    that the denoiser reads; None: it reads all of them, and every row has the same length. pooled:
    [captions, width], a vector for the whole caption. ids, ids_mask: [captions, tokens] of a second
    tokenizer whose encoder is a part of the denoiser. sizes: [captions, 6] float32, see
    trainer/plan/size_conditioning.py. guidance: the guidance that a distilled denoiser is given. A
    family ignores what it does not use.
    """

    states: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None
    mask: Tensor | None = None
    ids: Tensor | None = None
    ids_mask: Tensor | None = None
    guidance: float | None = None

    def to(self, dtype: torch.dtype) -> Conditioning:
        """Cast the text; sizes stay float32, because 1365 pixels would become 1368 in half
        precision.
        """
        pooled = None if self.pooled is None else self.pooled.to(dtype)
        return replace(self, states=self.states.to(dtype), pooled=pooled)

    def on(self, device: torch.device) -> Conditioning:
        """Return the same conditioning on a device."""
        moved = {
            name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors().items()
        }
        return replace(self, **moved)  # type: ignore[arg-type]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the text by their fields, those that there are."""
        each = self._tensors().items()
        return {name: tensor for name, tensor in each if tensor is not None}

    @staticmethod
    def of_tensors(tensors: Mapping[str, Tensor]) -> Conditioning:
        """Return the conditioning that has these tensors."""
        return Conditioning(**{name: tensors.get(name) for name in _TEXT})  # type: ignore[arg-type]

    def sized(self, sizes: Tensor) -> Conditioning:
        """Return the same text with its images' sizes."""
        return replace(self, sizes=sizes)

    def guided(self, guidance: float | None) -> Conditioning:
        """Return the same text with a guidance."""
        return replace(self, guidance=guidance)

    @property
    def nbytes(self) -> int:
        """Return the size of the text in memory."""
        return sum(tensor.nbytes for tensor in self._tensors().values() if tensor is not None)

    def rows(self) -> list[Conditioning]:
        """Return the rows as separate copies, without the padding that their masks leave out."""
        each = []
        for row in range(len(self.states)):
            tensors = {
                name: None if tensor is None else tensor[row : row + 1].clone()
                for name, tensor in self._tensors().items()
            }
            for mask, masked in _MASKED.items():
                kept = tensors[mask]
                if kept is not None:
                    for name in (mask, *masked):
                        tensors[name] = _selected(tensors[name], kept[0])
            each.append(Conditioning(**tensors))  # type: ignore[arg-type]
        return each

    def _tensors(self) -> dict[str, Tensor | None]:
        return {name: getattr(self, name) for name in _TEXT}


# The fields that are of the text, and those that a mask is of.
_TEXT: Final = ("states", "pooled", "mask", "ids", "ids_mask")
_MASKED: Final = {"mask": ("states",), "ids_mask": ("ids",)}


def _selected(tensor: Tensor | None, kept: Tensor) -> Tensor | None:
    return None if tensor is None else tensor[:, kept].clone()


def concatenate(rows: Sequence[Conditioning]) -> Conditioning:
    """Join the rows of several captions. Masked rows may differ in length: shorter ones are padded
    with zeros.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    masked = {name for mask in _MASKED for name in (mask, *_MASKED[mask])}
    joined: dict[str, Tensor | None] = {}
    for name in _TEXT:
        tensors = [tensor for row in rows if (tensor := getattr(row, name)) is not None]
        if not tensors:
            joined[name] = None
        elif name in masked and len({tensor.shape[1] for tensor in tensors}) > 1:
            each = [row for tensor in tensors for row in tensor]
            joined[name] = pad_sequence(each, batch_first=True)
        else:
            joined[name] = torch.cat(tensors)
    return Conditioning(**joined)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class FamilyNames:
    """A family's names in LoRA metadata.

    base_model_version: sd-scripts' ss_base_model_version, which user interfaces read.
    architecture, implementation: modelspec's. v2: sd-scripts' ss_v2. known_as: what any program
    calls the family there, in small letters and digits, where several families have such layers.
    """

    base_model_version: str
    architecture: str
    implementation: str = "diffusers"
    v2: bool = False
    known_as: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileMarks:
    """How the files of a family are recognised. The first family that matches counts.

    class_name: `_class_name` in the denoiser's config.json. is_folder: whether a diffusers folder,
    with this config, is of the family, where several families have the class. keys: beginnings of
    tensor names in a single file; each must occur, behind the same one of `prefixes`. own_keys:
    those of a file in diffusers' layout, if they are others.
    """

    class_name: str
    keys: tuple[str, ...]
    is_folder: Callable[[Path, Mapping[str, Any]], bool] = lambda folder, config: True
    prefixes: tuple[str, ...] = ("", "model.diffusion_model.", "diffusion_model.")
    own_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the files of a model state. prediction: None if they state none. distilled: the base to
    train on instead, for a model that is distilled to few steps; "" for other models. note: for the
    plan, of what the files do not state.
    """

    prediction: Predicts | None = None
    distilled: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class BlockList:
    """The blocks of a UNet, as the block lists of network_args count them; of a transformer none.

    down, middle, up: number of each. ends: the first and the last layer have an entry of their own.
    """

    down: int = 0
    middle: int = 0
    up: int = 0
    ends: bool = False

    @property
    def total(self) -> int:
        """Return the number of entries of a list of all blocks; 0: the family has no lists."""
        return self.down + self.middle + self.up + 2 * self.ends


@dataclass(frozen=True, slots=True)
class FlowDefaults:
    """How a family that matches flows draws its times, unless the options say otherwise.

    sampling, shift, scale: the defaults of `timestep_sampling`, `discrete_flow_shift` and
    `sigmoid_scale`. preview: the shift of preview images of a model without a scheduler's config: a
    `timestep_sampling` that shifts by resolution, or `shift` for the number. preview_shift: a rule
    of its own instead, by the tokens of an image and the number of steps, which is taken in any
    case. guidance: of preview images.
    """

    sampling: str
    shift: float | None = None
    scale: float = 1.0
    preview: str = "shift"
    preview_shift: Callable[[int, int], float] | None = None
    guidance: float = 4.0


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What a plan computes memory and ranks from: facts about a model from its tensors' shapes.

    parameters: of each part. layers: of each trainable part, those that a network can adapt. width:
    output values of the denoiser's layers per latent pixel of the VAE. text_widths: output values
    of each encoder's layers per token; hidden_widths: values of each encoder's state of a token.
    """

    parameters: Mapping[Part, int]
    layers: Mapping[Part, tuple[Layer, ...]] = field(compare=False)
    width: float
    text_widths: Mapping[Part, int] = field(default_factory=dict)
    hidden_widths: Mapping[Part, int] = field(default_factory=dict)


class Family(Protocol):
    """What a model family says and does: a module of functions, or an object without state."""

    @property
    def NAME(self) -> FamilyName:
        """Return its name in options and metadata."""

    @property
    def TITLE(self) -> str:
        """Return what messages call it."""

    @property
    def MARKS(self) -> FileMarks:
        """Return how its files are recognised."""

    @property
    def PROCESS(self) -> ProcessName:
        """Return the process that it was trained with."""

    @property
    def FLOW(self) -> FlowDefaults | None:
        """Return how times are drawn; None for ddpm."""

    @property
    def DENOISER(self) -> Part:
        """Return the denoiser's name, a part of `DENOISERS`."""

    @property
    def ENCODERS(self) -> tuple[Part, ...]:
        """Return the text encoders' names."""

    @property
    def EXTRA(self) -> tuple[Part, ...]:
        """Return the names of further frozen parts."""

    @property
    def TRAINS_TEXT(self) -> bool:
        """Tell whether the text encoders can be trained."""

    @property
    def FILE_PARTS(self) -> Mapping[Part, str]:
        """Return part -> the prefix of its tensors in a checkpoint file. Empty: a single file is
        the denoiser alone, and the other parts come from a folder.
        """

    @property
    def PREDICTION(self) -> Predicts | None:
        """Return what a model predicts that does not state it; None: the options have to say it."""

    @property
    def LATENT_SCALE(self) -> float | None:
        """Return the VAE's `scaling_factor`; None: its config has none."""

    @property
    def DIVISOR(self) -> int:
        """Return the number that the sides of buckets are multiples of."""

    @property
    def TEXT_LIMIT(self) -> int | None:
        """Return how many tokens of a caption are read; None: as many as max_token_length says."""

    @property
    def CLIP_SKIP(self) -> bool:
        """Tell whether clip_skip chooses the text encoder's layer; other families have a fixed
        layer.
        """

    @property
    def BLOCKS(self) -> BlockList:
        """Return the blocks of the block lists."""

    @property
    def FORMATS(self) -> tuple[LoraFormat, ...]:
        """Return the formats that a LoRA can be saved in; the first one is that of `lora_format =
        "auto"`.
        """

    @property
    def REFUSES(self) -> Mapping[str, str]:
        """Return option -> why it has no meaning in this family."""

    # ---- files, without torch

    def inspect(self, source: Path) -> ModelFacts:
        """Return what a model of this family states about itself. Raises ModelFileError for one
        that cannot be trained, such as a model for inpainting.
        """

    def anatomy(self, shapes: Mapping[Part, Shapes]) -> Anatomy:
        """Return the layers of a model from the shapes of each part's tensors, in diffusers' or
        the original layout.
        """

    def block(self, name: str) -> int | None:
        """Return the index of the denoiser's block that a layer is in; None: it is in none.

        name: of `targets`, or of a tensor in diffusers' or the original layout.
        """

    def token_counter(self, source: Path) -> Callable[[str], int]:
        """Return a function that counts a caption's tokens. source: the model."""

    def conditioning_values(
        self, widths: Mapping[Part, int], tokens: int, options: TrainOptions
    ) -> int:
        """Return how many values the conditioning of a caption has. widths: `hidden_widths` of an
        anatomy; tokens: of the caption.
        """

    def remarks(self, options: TrainOptions) -> Sequence[str]:
        """Return warnings about options that have little or another effect in this family."""

    def check_network(self, args: NetworkArgs, /) -> None:
        """Raise ConfigError for a network that cannot be trained on this family."""

    def metadata_names(self, prediction: Predicts) -> FamilyNames:
        """Return the family's names in LoRA metadata."""

    # ---- the model

    def load(
        self,
        base: str,
        *,
        revision: str,
        vae: str,
        folder: Path | None = None,
        prediction: Predicts | None,
        dtype: torch.dtype,
        only: Collection[Part] = (),
        int8: bool = False,
        reporter: Reporter = SILENT,
    ) -> Parts:
        """Load a model from a file, a folder or the hub. folder: with the other parts of a model
        that is a denoiser alone. prediction: what to train it to predict, if known. dtype: of all
        parts but the VAE, which is loaded in float32.

        For models that are large: only: the parts that are needed, all if it is empty; int8: read
        the denoiser's layers one by one as int8. A family of small models may load more, and leave
        int8 to the caller. A part that is not loaded is None, or missing among the encoders.
        """

    def targets(self, parts: Parts, part: Part) -> dict[str, str]:
        """Return the name of each module that LoRA adapts -> its path in the part. A name has no
        dots; in families with kohya's files it is kohya's.
        """

    def convolutions(self, parts: Parts) -> dict[str, str]:
        """Return further targets of the denoiser, which are trained with conv_dim only."""

    def norms(self, parts: Parts, *, convolutional: bool) -> dict[str, str]:
        """Return the norms of the denoiser, which are trained with train_norm only. convolutional:
        those of the convolutional blocks too.
        """

    def unreachable(self, parts: Parts, clip_skip: int) -> frozenset[str]:
        """Return the targets that no gradient reaches."""

    def encode_text(
        self, parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
    ) -> Conditioning:
        """Return the conditioning of captions."""

    def predict(
        self, parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Return the denoiser's prediction, of the shape of `noisy`.

        times: timesteps 0..999 (int64) of ddpm, sigmas 0..1 (float32) of flow; a scalar or one per
        sample. Packing, position ids and the model's own direction of time are
        the family's own matter.
        """

    # ---- latents

    def moments(self, vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the VAE's latents, each [images, channels, h, w],
        not normalised. pixels: [images, 3, H, W] from -1 to 1.
        """

    def normalise(self, vae: Any, latents: Tensor) -> Tensor:
        """Return latents as the denoiser gets them, with a variance of about 1."""

    def denormalise(self, vae: Any, latents: Tensor) -> Tensor:
        """Undo `normalise`."""

    def decode(self, vae: Any, latents: Tensor) -> Tensor:
        """Return the pixels of latents that are not normalised, as in `moments`."""

    def latent_shape(self, vae: Any, width: int, height: int) -> tuple[int, int, int]:
        """Return the shape of an image's normalised latent: channels, height, width."""

    # ---- LoRA files

    def export(
        self, network: Lora, dtype: torch.dtype, form: LoraFormat
    ) -> tuple[dict[str, Tensor], Mapping[str, str] | None]:
        """Return a network's tensors under the names of a format, and its header; None: the
        metadata of the run.
        """

    def restore(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a file in the family's first format as `lora.kohya_tensors` has
        them, with the names of `targets`.
        """

    def restored_shapes(self, shapes: Shapes) -> Shapes:
        """Return what `restore` returns, from the shapes of a file's tensors alone."""

    def reload(self, path: Path, plain: Parts, trained: Sequence[Part], adapter: str) -> None:
        """Load a LoRA file into a model without one, with diffusers' own loader."""


def formats(family: Family, asked: str) -> tuple[LoraFormat, ...]:
    """Return the formats that a LoRA is saved in. asked: `lora_format` of the options."""
    if asked == "auto":
        return family.FORMATS[:1]
    return family.FORMATS[:2] if asked == "both" else (cast(LoraFormat, asked),)


def rates(family: Family, options: TrainOptions) -> dict[Part, float]:
    """Return the learning rate of each trainable part, the denoiser first; 0: it is not trained."""
    denoiser, *encoders = options.rates().values()
    names = family.ENCODERS if family.TRAINS_TEXT else ()
    return {family.DENOISER: denoiser, **dict(zip(names, encoders, strict=False))}
