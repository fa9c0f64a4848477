"""A LoRA file as layers: any of kohya's, LyCORIS', diffusers' and peft's keys, the same layers."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import display
from trainer.families import registry
from trainer.families.base import FamilyName
from trainer.lora_files import dit_layers, layer_names
from trainer.lora_files.layer_names import LayerName
from trainer.lora_files.precision import Array
from trainer.lora_files.tensor_file import TensorEntry, TensorFile, open_file

LayerMethod = Literal["lora", "loha", "lokr", "full", "norm", "other", "incomplete"]
FileFormat = Literal["kohya", "diffusers", "peft", "comfy"]
DOWN, UP, MID, ALPHA = "lora_down.weight", "lora_up.weight", "lora_mid.weight", "alpha"
DORA: Final = "dora_scale"
NORM_WEIGHT, NORM_BIAS, BIAS = "w_norm", "b_norm", "diff_b"
PEFT_DORA: Final = "lora_magnitude_vector"
ADAPTER_METADATA: Final = "lora_adapter_metadata"
# The ends of keys, and what kohya's files call that tensor. The first that fits counts.
_ENDS: Final = tuple(
    (re.compile(rf"(.+?)\.{end}"), name)
    for end, name in (
        (r"lora_down\.weight", DOWN),
        (r"lora_up\.weight", UP),
        (r"lora_mid\.weight", MID),
        (r"lora_A(?:\.[A-Za-z]\w*)?\.weight", DOWN),
        (r"lora_B(?:\.[A-Za-z]\w*)?\.weight", UP),
        (r"lora(?:_linear_layer)?\.down\.weight", DOWN),
        (r"lora(?:_linear_layer)?\.up\.weight", UP),
        (r"(?<=_lora\.)down\.weight", DOWN),
        (r"(?<=_lora\.)up\.weight", UP),
        (rf"{PEFT_DORA}(?:\.\w+)*", PEFT_DORA),
        (r"alpha", ALPHA),
        (r"dora_scale", DORA),
        *((rf"hada_{n}", f"hada_{n}") for n in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
        *(
            (rf"lokr_{n}", f"lokr_{n}")
            for n in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
        ),
        (r"diff", "diff"),
        (r"diff_b", BIAS),
        (r"w_norm", NORM_WEIGHT),
        (r"b_norm", NORM_BIAS),
    )
)  # fmt: skip
# Tensors of methods that are listed and cannot be multiplied out here.
_OTHER_METHODS: Final = re.compile(
    r"(.+?)\.(oft_\w+(?:\.weight)?|boft_\w+|vera_lambda_\w+|on_input|[ab][12]\.weight"
    r"|bias_(?:indices|values|size)|lora_[AB]\.bias|lora_bias)"
)
# Prefixes of the keys of other files.
_NOT_A_LORA: Final[Mapping[str, str]] = {
    "model.diffusion_model.": "a checkpoint",
    "cond_stage_model.": "a checkpoint",
    "conditioner.": "a checkpoint",
    "control_model.": "a ControlNet",
    "controlnet_cond_embedding.": "a ControlNet",
    "encoder.conv_in.": "a VAE",
    "first_stage_model.": "a VAE",
    "down_blocks.": "a UNet",
    "input_blocks.": "a UNet",
    "text_model.": "a text encoder",
    "double_blocks.": "a model of Flux",
    "emb_params": "an embedding (textual inversion)",
    "string_to_param": "an embedding (textual inversion)",
    "clip_l": "an embedding (textual inversion)",
    "clip_g": "an embedding (textual inversion)",
}
# In names of layers -> the family; no other tool of this project knows them.
_OTHER_FAMILIES: Final[Mapping[str, str]] = {
    "double_blocks": "Flux",
    "single_blocks": "Flux",
    "single_transformer_blocks": "Flux",
    "joint_blocks": "Stable Diffusion 3",
    "transformer.transformer_blocks": "Flux or Stable Diffusion 3",
    "lora_transformer_": "Flux or Stable Diffusion 3",
}
_WIDTHS: Final[Mapping[int, FamilyName]] = {768: "sd1", 1024: "sd2", 2048: "sdxl"}


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """One layer in a LoRA file. key: its name there; tensors: kohya's name -> tensor.

    alpha: None where the file does not give it; it then counts as the rank. method: "incomplete"
    where a tensor is missing, see `problem`.
    """

    key: str
    name: LayerName
    method: LayerMethod
    tensors: Mapping[str, TensorEntry]
    file: TensorFile
    alpha: float | None
    problem: str = ""

    @property
    def rank(self) -> int:
        """Return the rank, 0 for full matrices and norms."""
        shapes = {name: t.shape for name, t in self.tensors.items()}
        if self.method == "lora":
            return shapes[DOWN][0]
        if self.method == "loha":
            return shapes["hada_w1_b"][0]
        low = shapes.get("lokr_w2_b", shapes.get("lokr_w1_b"))
        return low[0] if self.method == "lokr" and low else 0

    @property
    def scale(self) -> float:
        """Return the factor of the product: alpha / rank; 1 without a rank."""
        return 1.0 if self.alpha is None or not self.rank else self.alpha / self.rank

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of a LoRA layer's weight: (out, in) or (out, in, k, k)."""
        down, up, mid = (self.tensors.get(name) for name in (DOWN, UP, MID))
        if down is None or up is None:
            raise ValueError(self.method)
        kernel = (mid or down).shape[2:]
        return (up.shape[0], down.shape[1], *kernel)

    @property
    def has_kernel(self) -> bool:
        """Tell whether it is a LoRA of a convolution larger than 1x1."""
        return self.method == "lora" and math.prod(self.shape[2:]) > 1

    @property
    def is_dora(self) -> bool:
        return DORA in self.tensors or PEFT_DORA in self.tensors

    def array(self, name: str) -> Array:
        """Return a tensor in float64."""
        return self.file.array(self.tensors[name].name)


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA file. others: keys that belong to no layer. family: of UNets, None for others;
    family_title: its name for people; transformer: a key of `dit_layers.EXPORTS`, "" for others.
    """

    file: TensorFile
    format: FileFormat
    layers: tuple[LoraLayer, ...]
    others: tuple[str, ...]
    family: FamilyName | None
    family_title: str
    transformer: str = ""

    @property
    def path(self) -> Path:
        return self.file.path

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.file.metadata

    @property
    def dtype(self) -> str:
        """Return the type of most of the weights."""
        sizes: Counter[str] = Counter()
        for layer in self.layers:
            for name, entry in layer.tensors.items():
                sizes[entry.dtype] += entry.size if name != ALPHA else 0
        return max(sizes, key=lambda dtype: (sizes[dtype], dtype))


def read(path: Path) -> LoraFile:
    """Read a LoRA file: its header and its alphas. Raises ModelFileError for other files."""
    file = open_file(path)
    grouped: dict[str, dict[str, TensorEntry]] = {}
    unknown: dict[str, list[str]] = {}
    others: list[str] = []
    for key, entry in file.entries.items():
        module, tensor = _split(key)
        if tensor:
            grouped.setdefault(module, {})[tensor] = entry
        elif match := _OTHER_METHODS.fullmatch(key):
            unknown.setdefault(match[1], []).append(key)
        else:
            others.append(key)
    if not any(set(tensors) - {ALPHA, DORA, BIAS} for tensors in grouped.values()):
        raise _not_a_lora(path, file.entries)
    stated = _stated_alphas(file)
    layers = [_layer(file, key, tensors, stated) for key, tensors in grouped.items()]
    transformer = _transformer(layers, file.metadata)
    if transformer:
        layers = [
            replace(layer, name=dit_layers.layer_name(transformer, layer.key)) for layer in layers
        ]
    for key in unknown.keys() - grouped.keys():
        entries = {name: file.entries[name] for name in unknown[key]}
        layers.append(LoraLayer(key, layer_names.parse(key), "other", entries, file, None))
    layers.sort(key=lambda layer: layer.key)
    _require_distinct(path, layers)
    family = None if transformer else _family(layers, file.metadata)
    title = dit_layers.TITLES[transformer] if transformer else _title(family, layers)
    return LoraFile(file, _format(file), tuple(layers), tuple(others), family, title, transformer)


def _transformer(layers: Sequence[LoraLayer], metadata: Mapping[str, str]) -> str:
    """Return the family of a transformer's LoRA, "" for that of a UNet and for an unknown one."""
    unknown = {
        layer.key: layer.shape if layer.method == "lora" else ()
        for layer in layers
        if not layer.name.is_known
    }
    known = sum(layer.name.is_known for layer in layers)
    return (dit_layers.family_of(unknown, metadata) or "") if len(unknown) > known else ""


def _split(key: str) -> tuple[str, str]:
    """Return the layer's name in a key, and kohya's name of the tensor; "" for an unknown one."""
    for pattern, name in _ENDS:
        if match := pattern.fullmatch(key):
            return match[1], name
    return key, ""


def _layer(
    file: TensorFile,
    key: str,
    tensors: Mapping[str, TensorEntry],
    stated: Mapping[str, float],
) -> LoraLayer:
    name = layer_names.parse(key)
    alpha = stated.get(key)
    if ALPHA in tensors:
        alpha = _scalar(file, tensors[ALPHA])
    method, problem = _method(tensors)
    return LoraLayer(key, name, method, tensors, file, alpha, problem)


def _scalar(file: TensorFile, entry: TensorEntry) -> float:
    if entry.size != 1:
        raise ModelFileError(
            f"{display(file.path)} is damaged: {display(entry.name)} is not a number",
            hint="download the file again",
        )
    return float(file.array(entry.name).reshape(()))


# The tensors that a layer of a method needs; alternatives are given as one text.
_NEEDED: Final[Mapping[LayerMethod, tuple[str, ...]]] = {
    "lora": (DOWN, UP),
    "loha": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
    "lokr": ("lokr_w1|lokr_w1_a+lokr_w1_b", "lokr_w2|lokr_w2_a+lokr_w2_b"),
    "full": ("diff",),
    "norm": (NORM_WEIGHT,),
}


def _method(tensors: Mapping[str, TensorEntry]) -> tuple[LayerMethod, str]:
    """Return the method of a layer by its tensors, and what is wrong with them."""
    beginnings: tuple[tuple[str, LayerMethod], ...] = (
        ("lora_", "lora"),
        ("hada_", "loha"),
        ("lokr_", "lokr"),
        ("diff", "full"),
        ("w_norm", "norm"),
        ("b_norm", "norm"),
    )
    for start, method in beginnings:
        if any(name.startswith(start) and name != PEFT_DORA for name in tensors):
            missing = [
                needed
                for needed in _NEEDED[method]
                if not any(
                    all(name in tensors for name in way.split("+")) for way in needed.split("|")
                )
            ]
            if missing:
                if method == "full" and BIAS in tensors:
                    return "other", ""
                names = ", ".join(m.partition("|")[0] for m in missing)
                return "incomplete", f"{names} is missing"
            problem = _wrong_shapes(method, {name: t.shape for name, t in tensors.items()})
            return ("incomplete" if problem else method), problem
    return "incomplete", "it has no weights"


def _wrong_shapes(method: LayerMethod, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return how the shapes of a layer's tensors do not fit each other, "" if they do."""
    weights = {n: s for n, s in shapes.items() if n not in (ALPHA, DORA, PEFT_DORA, BIAS)}
    if method == "norm":
        return _wrong_norm(weights)
    flat = [name for name, shape in weights.items() if len(shape) < 2 and method != "full"]
    if flat:
        return f"{flat[0]} is not a matrix"
    if any(0 in shape for shape in weights.values()):
        return "a tensor is empty"
    if method == "lora":
        return _wrong_lora(shapes)
    starts = {"loha": ("hada_w1", "hada_w2"), "lokr": ("lokr_w1", "lokr_w2")}.get(method, ())
    problem = next((p for start in starts if (p := _wrong_factors(start, shapes))), "")
    if method == "loha" and not problem:
        sizes = [_factor_size(start, shapes) for start in starts]
        if sizes[0] != sizes[1]:
            first, second = (" x ".join(map(str, size)) for size in sizes)
            return f"hada_w1 is {first}, hada_w2 {second}"
    return problem


def _wrong_norm(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return what is wrong with the tensors of a norm, "" for nothing."""
    if other := sorted(set(shapes) - {NORM_WEIGHT, NORM_BIAS}):
        return f"{other[0]} is not a tensor of a norm"
    if any(len(shape) != 1 or not shape[0] for shape in shapes.values()):
        return "its tensors are not vectors"
    sizes = {shape[0] for shape in shapes.values()}
    return "w_norm and b_norm differ in size" if len(sizes) > 1 else ""


def _core(start: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Return the shape of the middle factor of LyCORIS' `hada_w1`, ..., `lokr_w2`, None without."""
    method, _, number = start.partition("_w")
    return shapes.get(f"{method}_t{number}")


def _wrong_factors(start: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return how the factors `a`, `b` and the middle one do not fit each other, "" if they do."""
    a, b, core = shapes.get(f"{start}_a"), shapes.get(f"{start}_b"), _core(start, shapes)
    if start in shapes or a is None or b is None:
        return ""
    if core is None:
        fits, inner, outer = len(a) == 2 and a[1] == b[0], a[1], b[0]
        return "" if fits else f"{start}_a has rank {inner}, {start}_b {outer}"
    fits = len(a) == len(b) == 2 and core[:2] == (a[0], b[0])
    return "" if fits else f"the middle factor of {start} does not fit its {start}_a and {start}_b"


def _factor_size(start: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """Return the size of the product of a LoHa's factors, see trainer/lora_files/algebra.py."""
    a, b, core = shapes[f"{start}_a"], shapes[f"{start}_b"], _core(start, shapes)
    if core is None:
        return a[0], b[1]
    return a[1], b[1] * math.prod(core[2:])


def _wrong_lora(shapes: Mapping[str, tuple[int, ...]]) -> str:
    down, up, mid = shapes[DOWN], shapes[UP], shapes.get(MID)
    inner = mid[1] if mid else down[0]
    if down[0] != inner or up[1] != (mid[0] if mid else down[0]):
        return f"lora_down has rank {down[0]}, lora_up {up[1]}"
    return "lora_up has a kernel" if math.prod(up[2:]) != 1 else ""


def _stated_alphas(file: TensorFile) -> dict[str, float]:
    """Return key -> alpha of a file with diffusers' or peft's keys, whose header, or
    adapter_config.json beside it, has them. A rank-stabilised alpha is given as the plain one of
    equal strength.
    """
    text = file.metadata.get(ADAPTER_METADATA)
    config = file.path.parent / "adapter_config.json"
    if text is None and any(key.startswith("base_model.model.") for key in file.entries):
        try:
            text = config.read_text(encoding="utf-8") if config.is_file() else None
        except (OSError, ValueError):
            text = None
    try:
        facts = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        facts = {}
    if not isinstance(facts, dict) or not facts:
        return {}
    alphas: dict[str, float] = {}
    for key, entry in file.entries.items():
        module, tensor = _split(key)
        if tensor != DOWN or not entry.shape:
            continue
        part, _, inner = module.partition(".")
        prefixed = {
            k.removeprefix(f"{part}."): v for k, v in facts.items() if k.startswith(f"{part}.")
        }
        alpha = _stated_alpha(prefixed or facts, inner if prefixed else module, entry.shape[0])
        if alpha is not None:
            alphas[module] = alpha
    return alphas


def _stated_alpha(facts: Mapping[str, Any], path: str, rank: int) -> float | None:
    """Return the alpha of a layer by the configuration of its adapter, as peft finds it."""
    alpha = facts.get("lora_alpha", facts.get("alpha"))
    pattern = facts.get("alpha_pattern")
    plain = path.removeprefix("base_model.model.").removeprefix("text_model.")
    for key, value in pattern.items() if isinstance(pattern, dict) else ():
        if plain == key or plain.endswith(f".{key}") or path == key:
            alpha = value
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        return None
    try:
        value = float(alpha)
    except OverflowError:  # an integer of hundreds of digits
        value = math.inf
    return value * math.sqrt(rank) if facts.get("use_rslora") is True else value


def _require_distinct(path: Path, layers: Iterable[LoraLayer]) -> None:
    counts = Counter(layer.name for layer in layers)
    name, times = max(counts.items(), key=lambda item: item[1])
    if times > 1:
        keys = [layer.key for layer in layers if layer.name == name]
        raise ModelFileError(
            f"{display(path)} has one layer twice: {display(keys[0])} and {display(keys[1])}",
            hint="remove one of them",
        )


def _format(file: TensorFile) -> FileFormat:
    if any(key.startswith("base_model.model.") for key in file.entries):
        return "peft"
    if sum(key.startswith("diffusion_model.") for key in file.entries) > len(file.entries) / 2:
        return "comfy"
    dotted = sum(key.startswith(("unet.", "text_encoder", "transformer.")) for key in file.entries)
    return "diffusers" if dotted > len(file.entries) / 2 else "kohya"


def _family(layers: Iterable[LoraLayer], metadata: Mapping[str, str]) -> FamilyName | None:
    """Return the family by what only it has: names, then widths, then what the header states."""
    layers = [layer for layer in layers if layer.name.is_known]
    if not layers:
        return None
    if any(_is_sdxl(layer) for layer in layers):
        return "sdxl"
    for layer in layers:
        if layer.method == "lora" and layer.name.kind in ("attn2.to_k", "attn2.to_v"):
            family = _WIDTHS.get(layer.tensors[DOWN].shape[1])
            if family:
                return family
    version = metadata.get("ss_base_model_version", "")
    architecture = metadata.get("modelspec.architecture", "")
    if version.startswith("sdxl") or architecture.startswith("stable-diffusion-xl"):
        return "sdxl"
    if version.startswith("sd_v2") or architecture.startswith("stable-diffusion-v2"):
        return "sd2"
    last = max((n for layer in layers if (n := layer_names.text_layer(layer.name))), default=0)
    return "sd2" if last > 11 else "sd1"


def _is_sdxl(layer: LoraLayer) -> bool:
    return (
        layer.name.part == "text_encoder_2"
        or layer.key.startswith("lora_te1_")
        or re.match(r"lora_unet_(?:input|output|middle)_block", layer.key) is not None
        or re.search(r"transformer_blocks\.[1-9]", layer.name.path) is not None
    )


def _title(family: FamilyName | None, layers: Iterable[LoraLayer]) -> str:
    if family:
        return registry.family(family).TITLE
    keys = [layer.key for layer in layers]
    for part, title in _OTHER_FAMILIES.items():
        if any(part in key for key in keys):
            return f"{title} (not supported)"
    return "unknown"


def _not_a_lora(path: Path, entries: Mapping[str, TensorEntry]) -> ModelFileError:
    what = next(
        (what for start, what in _NOT_A_LORA.items() if any(k.startswith(start) for k in entries)),
        "",
    )
    if not entries:
        reason = "it has no tensors"
    elif what:
        return ModelFileError(
            f"{display(path)} is {what}, not a LoRA", hint="name a LoRA in .safetensors"
        )
    else:
        reason = f"none of its tensors is one of a LoRA ({display(next(iter(entries))[:80])}, ...)"
    return ModelFileError(
        f"{display(path)} is not a LoRA: {reason}", hint="name a LoRA in .safetensors"
    )
