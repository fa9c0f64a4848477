"""Load the parts of a diffusion transformer from a diffusers folder, and its transformer from one
file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import display
from datasetkit.core.progress import SILENT, Reporter
from trainer.families.dit_shapes import PREFIXES, bare_name

if TYPE_CHECKING:
    import torch

VAE: Final = "vae"
_TRANSFORMER: Final = "transformer"
# The scales of ComfyUI's 8-bit files.
_SCALES: Final = (".scale_weight", ".weight_scale", "scaled_fp8")


def load_parts(
    folder: Path,
    kinds: Mapping[str, str],
    tokenizers: Sequence[str],
    *,
    dtype: torch.dtype,
    int8: str = "",
    reporter: Reporter = SILENT,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load the models and the tokenizers of a diffusers folder, on the CPU, frozen.

    kinds: subfolder -> the class in diffusers or transformers. dtype: of all but the VAE, which is
    loaded in float32. int8: a model of diffusers that is read layer by layer as int8. Raises
    ModelFileError.
    """
    reporter.phase("loading diffusers and transformers")
    import diffusers
    import torch
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would overwrite this program's progress line
    models: dict[str, Any] = {}
    try:
        for name, kind in kinds.items():
            reporter.phase(f"loading the base model: {name}")
            precision = torch.float32 if name == VAE else dtype
            if name == int8:
                models[name] = _load_int8(folder / name, getattr(diffusers, kind), precision)
            elif hasattr(diffusers, kind):
                models[name] = getattr(diffusers, kind).from_pretrained(
                    folder, subfolder=name, local_files_only=True, use_safetensors=True,
                    torch_dtype=precision,
                )  # fmt: skip
            else:
                models[name] = getattr(transformers, kind).from_pretrained(
                    folder, subfolder=name, local_files_only=True, use_safetensors=True,
                    dtype=precision,
                )  # fmt: skip
        for model in models.values():
            model.requires_grad_(False).eval()
        return models, {name: load_tokenizer(folder / name) for name in tokenizers}
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        *most, last = [f"{name}/" for name in (*kinds, *tokenizers)]
        raise ModelFileError(
            f"{display(folder)} is not a complete diffusers model: {_first_line(error)}",
            hint=f"it needs {', '.join(most)} and {last}",
        ) from error


def _load_int8(folder: Path, kind: Any, dtype: torch.dtype) -> Any:
    """Load a model of diffusers with int8 layers, one tensor at a time, so that main memory never
    holds more than the int8 model and one layer. Layers are quantized from the precision of the
    file; dtype: of everything else. Raises OSError, KeyError, ValueError.
    """
    import torch
    from accelerate import init_empty_weights
    from safetensors import safe_open

    from trainer.families import int8_base

    with init_empty_weights():
        model = kind.from_config(kind.load_config(folder))
    missing = set(model.state_dict())
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                layer = model.get_submodule(name.rpartition(".")[0])
                current = getattr(layer, name.rpartition(".")[2])
                if current.shape != tensor.shape:
                    raise ValueError(f"{name} has the shape {list(tensor.shape)}")
                missing.discard(name)
                is_weight = name.endswith(".weight") and int8_base.is_quantizable(layer)
                value = tensor.float() if is_weight else tensor.to(dtype)
                if isinstance(current, torch.nn.Parameter):
                    value = torch.nn.Parameter(value, requires_grad=False)
                setattr(layer, name.rpartition(".")[2], value)
                if is_weight:
                    int8_base.quantize(layer)
    if missing:
        raise KeyError(f"{sorted(missing)[0]} is missing")
    return model


def load_tokenizer(folder: Path) -> Any:
    """Load a tokenizer of a model's folder. Raises ModelFileError."""
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise ModelFileError(
            f"cannot read the tokenizer in {display(folder)}: {_first_line(error)}",
            hint="download the model's folder again, with its tokenizer files",
        ) from error


def load_transformer(path: Path, kind: str, folder: Path, dtype: torch.dtype) -> Any:
    """Load a transformer from one file in the original or in diffusers' layout, on the CPU, frozen.

    folder: a diffusers folder of the same model, whose transformer/config.json is taken. Raises
    ModelFileError.
    """
    import diffusers
    from diffusers.loaders.single_file_utils import SingleFileComponentError
    from safetensors import SafetensorError

    try:
        model = getattr(diffusers, kind).from_single_file(
            _transformer_tensors(path),
            config=str(folder),
            subfolder=_TRANSFORMER,
            local_files_only=True,
            torch_dtype=dtype,
        )
        _require_all(model)
    except (
        *(SingleFileComponentError, OSError, ValueError, RuntimeError, KeyError, IndexError),
        SafetensorError,
    ) as error:
        raise ModelFileError(
            f"{display(path)} is not a transformer that fits {display(folder)}: "
            f"{_first_line(error)}",
            hint="name a file of the same model as the folder",
        ) from error
    return model.requires_grad_(False).eval()


def load_beside_transformer(
    path: Path, prefix: str, kind: str, folder: Path, dtype: torch.dtype
) -> Any | None:
    """Load a part that a transformer's file has beside it, on the CPU, frozen; None where it has no
    weight of it.

    prefix: of its names. folder: of the same part, whose config.json is taken. Raises
    ModelFileError.
    """
    import diffusers
    from accelerate import init_empty_weights
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            names = {bare_name(name): name for name in file.keys()}  # noqa: SIM118
            _refuse_scales(path, names)
            if not any(name.startswith(prefix) for name in names):
                return None
            of_kind = getattr(diffusers, kind)
            with init_empty_weights():
                model = of_kind.from_config(of_kind.load_config(folder))
            tensors = {}
            for name, current in model.state_dict().items():
                tensors[name] = file.get_tensor(names[prefix + name]).to(dtype)
                if tensors[name].shape != current.shape:
                    raise ValueError(f"{prefix}{name} has the shape {list(tensors[name].shape)}")
        model.load_state_dict(tensors, assign=True)
    except KeyError as error:
        raise _not_of_folder(path, folder, f"{error.args[0]} is missing") from error
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _not_of_folder(path, folder, _first_line(error)) from error
    return model.requires_grad_(False).eval()


def _not_of_folder(path: Path, folder: Path, why: str) -> ModelFileError:
    return ModelFileError(
        f"the {folder.name} in {display(path)} does not fit {display(folder)}: {why}",
        hint="name a file of the same model as the folder",
    )


def _transformer_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a transformer in a file, which may have other parts, without the prefix
    of their names. Raises ModelFileError for weights that need a scale beside them.
    """
    from safetensors.torch import load_file

    tensors = load_file(path)
    _refuse_scales(path, tensors)
    for prefix in PREFIXES:
        if inner := {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}:
            return inner
    return tensors


def _refuse_scales(path: Path, names: Iterable[str]) -> None:
    if any(name.endswith(_SCALES) for name in names):
        raise ModelFileError(
            f"the weights in {display(path)} are scaled 8-bit numbers, which are not supported",
            hint='name a file in bf16 or fp16; base_precision = "int8" makes it small in memory',
        )


def _require_all(model: Any) -> None:
    """Raise KeyError for a weight that no tensor of a file gave a value."""
    for name, tensor in model.state_dict().items():
        if tensor.is_meta:
            raise KeyError(f"{name} is missing")


def _first_line(error: Exception) -> str:
    return display((str(error).strip() or type(error).__name__).splitlines()[0][:200])
