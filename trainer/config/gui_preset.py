"""Read a JSON preset of the LoRA page of the kohya_ss GUI as the config.toml that it writes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from datasetkit.options.networks import LYCORIS
from datasetkit.options.train import TrainOptions
from trainer.config.findings import Findings, shown
from trainer.config.keys import (
    GUI_FLUX_ARGUMENTS,
    GUI_MODELS,
    GUI_OTHER_MODEL,
    GUI_PAGES,
    OTHER_MODEL,
    PRESET,
    KeyMeaning,
    is_off,
)
from trainer.plan.plan import Subset

_BLOCKS: Final = (
    "down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold", "block_dims",
    "block_alphas", "conv_block_dims", "conv_block_alphas", "rank_dropout", "module_dropout",
)  # fmt: skip
_CONV: Final = ("conv_dim", "conv_alpha")
_NATIVE: Final = (*_CONV, "use_tucker", "rank_dropout", "module_dropout")
_OF_LYCORIS: Final = (
    *_NATIVE, "bypass_mode", "dora_wd", "use_scalar", "rank_dropout_scale", "train_norm",
)  # fmt: skip
_PLUS: Final = (
    "loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio",
)  # fmt: skip
# Lists of network and optimizer are texts here, with spaces between.
_LISTS: Final = ("optimizer_args", "lr_scheduler_args")


@dataclass(frozen=True, slots=True)
class _Kind:
    """A LoRA_type. args: the keys of a preset that it uses, in the order of the GUI. keeps_zero:
    the GUI also passes a conv_dim of 0, with which the convolutional blocks are trained without
    their 3x3 convolutions.
    """

    module: str
    args: tuple[str, ...]
    algo: str = ""
    keeps_zero: bool = False


_KINDS: Final[Mapping[str, _Kind]] = {
    "Standard": _Kind("networks.lora", _BLOCKS),
    "Kohya LoCon": _Kind("networks.lora", (*_CONV, *_BLOCKS), keeps_zero=True),
    "Flux1": _Kind("networks.lora_flux", ()),
    "Kohya LoHa": _Kind("networks.loha", _NATIVE),
    "Kohya LoKr": _Kind("networks.lokr", (*_NATIVE, "factor")),
    "LoCon": _Kind(LYCORIS, _OF_LYCORIS, "locon", keeps_zero=True),
    "LyCORIS/LoCon": _Kind(LYCORIS, _OF_LYCORIS, "locon", keeps_zero=True),
    "LyCORIS/LoHa": _Kind(LYCORIS, _OF_LYCORIS, "loha", keeps_zero=True),
    "LyCORIS/LoKr": _Kind(
        LYCORIS, (*_OF_LYCORIS, "factor", "use_cp", "decompose_both"), "lokr", keeps_zero=True
    ),
}
# Lists of blocks, of which "none" leaves out all.
_BLOCK_LISTS: Final = ("train_double_block_indices", "train_single_block_indices")
# Keys that are options here, and that the GUI passes on for a flow model alone.
_OF_PAGES: Final = ("blocks_to_swap", "fp8_base_unet")
_COUNTED: Final = (".jpg", ".jpeg", ".png", ".webp")
_DROPPED: Final = (None, "", False, 0, "0")
# The GUI's older names of two arguments.
_OLD_NAMES: Final = {"conv_dims": "conv_block_dims", "conv_alphas": "conv_block_alphas"}


def flow_model(data: Mapping[str, Any]) -> str:
    """Return the flow model whose box is ticked, a key of GUI_PAGES; "" for another model. With
    several boxes the GUI takes the first of these.
    """
    if any(not is_off(data.get(box)) for box in ("sdxl", "sdxl_checkbox")):
        return ""
    return next((model for model in GUI_PAGES if not is_off(data.get(f"{model}_checkbox"))), "")


def flattened(data: Mapping[str, Any], file: str, findings: Findings) -> dict[str, Any]:
    """Return a preset under the keys of sd-scripts; what cannot be is added to the findings."""
    given = {_OLD_NAMES.get(key, key): value for key, value in data.items()}
    model = flow_model(given)
    table = _without_other_models(given, file, findings) | _page(given, model, file, findings)
    more = _parameters(table.pop("additional_parameters", ""), file, findings)
    table |= _network(table, model, file, findings)
    for name in _LISTS:
        if isinstance(table.get(name), str):
            table[name] = table[name].replace('"', "").split()
    _set_cycles(table)
    _set_length(table)
    _set_warmup(table)
    _set_parts(table)
    _set_prompts(table)
    # The GUI passes on no value that is empty, off or 0: sd-scripts takes its default for them.
    table = {name: value for name, value in table.items() if value not in _DROPPED}
    return table | more


def _without_other_models(data: Mapping[str, Any], file: str, findings: Findings) -> dict[str, Any]:
    """Leave out the keys of other models; their defaults are always in the file."""
    for key, value in data.items():
        if key.endswith("_checkbox") and key in PRESET and not PRESET[key].is_off(value):
            findings.refuse(file, key, f"{key} = {shown(value)} is not supported", PRESET[key].text)
    return {
        key: value
        for key, value in data.items()
        if not key.startswith(GUI_MODELS)
        and key not in GUI_OTHER_MODEL
        and key not in _OF_PAGES
        and not (key in PRESET and PRESET[key].text == OTHER_MODEL)
    }


def _page(data: Mapping[str, Any], model: str, file: str, findings: Findings) -> dict[str, Any]:
    """Return the keys of the page for a flow model under sd-scripts' names. model: see
    `flow_model`.
    """
    if not model:
        return {}
    if model == "flux1" and data.get("LoRA_type") == "Flux1":
        for key, hint in GUI_FLUX_ARGUMENTS.items():
            value = data.get(key)
            is_every = value in (None, "", "all") if key in _BLOCK_LISTS else is_off(value)
            if not is_every:
                findings.refuse(
                    file, key, f"{key} = {shown(value)} is not supported", f"{hint}: empty it"
                )
    page = {
        name: data[key]
        for key, name in GUI_PAGES[model].items()
        if key in data and key not in GUI_FLUX_ARGUMENTS
    }
    if model == "flux1":
        page["max_token_length"] = None  # the GUI leaves it to t5xxl_max_token_length
    return page


def _network(table: dict[str, Any], model: str, file: str, findings: Findings) -> dict[str, Any]:
    """Take the arguments of the network out of a table; return network_module and network_args."""
    values = {
        key: table.pop(key)
        for key in list(table)
        if key in PRESET and PRESET[key].meaning is KeyMeaning.ARGUMENT
    }
    name = values.get("LoRA_type", "Standard")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        findings.refuse(
            file,
            "LoRA_type",
            f"LoRA_type = {shown(name)} is not supported",
            "choose " + ", ".join(kind for kind in _KINDS if kind != "LoCon"),
        )
        return {}
    if name == "Flux1" and model != "flux1":
        findings.refuse(
            file,
            "LoRA_type",
            "LoRA_type = 'Flux1' is for Flux, and flux1_checkbox is off",
            "set flux1_checkbox = true, or LoRA_type = Standard",
        )
        return {}
    given = {key: values[key] for key in (*kind.args, *_PLUS) if values.get(key) not in (None, "")}
    kept = _CONV if kind.keeps_zero else ()
    used = {key: value for key, value in given.items() if key in kept or not is_off(value)}
    if "conv_dim" not in used:
        used.pop("conv_alpha", None)
    args = [f"{key}={_text(value)}" for key, value in used.items()]
    if kind.algo:
        args = [f"preset={values.get('LyCORIS_preset') or 'full'}", f"algo={kind.algo}", *args]
    return {"network_module": kind.module, "network_args": args}


def _text(value: Any) -> str:
    """Write a value as an argument: 8 for 8.0."""
    is_whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if is_whole else value).replace('"', "")


def _set_cycles(table: dict[str, Any]) -> None:
    """Let `epoch` count where the field of the cycles is empty, as the GUI does."""
    if table.get("lr_scheduler_num_cycles") == "":
        table["lr_scheduler_num_cycles"] = table.get("epoch")


def _set_length(table: dict[str, Any]) -> None:
    """Let `epoch` count where neither epochs nor steps are given, nor a dataset.toml, for which the
    GUI does not look at it.
    """
    counts = counts_epoch(table)
    epoch = table.pop("epoch", None)
    if counts:
        table["max_train_epochs"] = epoch


def counts_epoch(data: Mapping[str, Any]) -> bool:
    """Tell whether the GUI makes steps of a preset's `epoch`."""
    keys = ("max_train_epochs", "max_train_steps", "dataset_config")
    more = str(data.get("additional_parameters", ""))
    return all(is_off(data.get(key)) and f"--{key}" not in more for key in keys)


def count_steps(subsets: Iterable[Subset], options: TrainOptions) -> int:
    """Return the steps that the GUI makes of `epoch`: images times repeats, divided by the batch
    size and the accumulation, regardless of the buckets; twice as many with regularisation.
    """
    folders = {subset.folder: subset for subset in subsets}.values()
    samples = sum(
        subset.repeats * sum(p.suffix.lower() in _COUNTED for p in subset.folder.iterdir())
        for subset in folders
        if not subset.is_reg
    )
    factor = 2 if any(subset.is_reg for subset in folders) else 1
    per_step = options.train_batch_size * options.gradient_accumulation_steps
    return -(-samples * (options.max_train_epochs or 1) * factor // per_step)


def _set_warmup(table: dict[str, Any]) -> None:
    """Read lr_warmup, in percent; steps stand above it."""
    percent = table.pop("lr_warmup", 0)
    if is_off(table.get("lr_warmup_steps")) and not is_off(percent):
        table["lr_warmup_steps"] = f"{_text(percent)}%"


def _set_parts(table: dict[str, Any]) -> None:
    """Leave out the part of the model whose rate is 0, as the GUI does; 0 for both means that
    learning_rate counts.
    """
    rates = [table.get(name) for name in ("text_encoder_lr", "unet_lr")]
    if any(rate is None for rate in rates):
        return
    text_off, unet_off = (_is_zero(rate) for rate in rates)
    if text_off:
        del table["text_encoder_lr"]
    if unet_off:
        del table["unet_lr"]
    if text_off != unet_off:
        table["network_train_unet_only"] = text_off
        table["network_train_text_encoder_only"] = unet_off


def _is_zero(rate: Any) -> bool:
    try:
        return float(rate) == 0
    except (TypeError, ValueError):
        return is_off(rate)


def _set_prompts(table: dict[str, Any]) -> None:
    """Name the file into which the GUI writes the prompts that stand in its preset."""
    table.pop("sample_prompts", None)
    folder = table.get("output_dir")
    file = Path(folder) / "sample" / "prompt.txt" if isinstance(folder, str) and folder else None
    if file is not None and file.is_file():
        table["sample_prompts"] = str(file)


def _parameters(text: Any, file: str, findings: Findings) -> dict[str, Any]:
    """Read `additional_parameters`, which the GUI adds to the command line of sd-scripts."""
    key = "additional_parameters"
    if not isinstance(text, str):
        return {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        findings.refuse(file, key, f"{key} = {shown(text)}: {error}", "close the quote")
        return {}
    values: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, sign, value = word[2:].partition("=")
            values[name] = [value] if sign else []
        elif name:
            values[name].append(word)
        else:
            findings.refuse(file, key, f"{key} begins with {shown(word)}", "write --name value")
            return {}
    return {name: _parameter(name, parts) for name, parts in values.items()}


def _parameter(name: str, parts: list[str]) -> Any:
    if name in (*_LISTS, "network_args", "text_encoder_lr"):
        return parts
    return True if not parts else parts[0] if len(parts) == 1 else parts
