"""Read `network_module` and `network_args` under sd-scripts' names; each argument is a row of a
table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.ranges import in_range
from datasetkit.core.suggest import did_you_mean
from datasetkit.options.networks import (
    ALGOS,
    LYCORIS,
    MIDDLES,
    MODULES,
    PRESETS,
    SHAPES,
    SIDES,
    TOTALS,
    Algo,
    NetworkArgs,
    Weights,
)


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument. read: parses its text. field: of NetworkArgs. what: help. only: the method that
    has it, None for all.
    """

    read: Callable[[str, str], Any]
    field: str
    what: str
    only: Algo | None = None


def _number(low: float, high: float) -> Callable[[str, str], float]:
    def read(name: str, text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise _unreadable(name, text, "give a number") from None
        in_range(name, number, low, high)
        return number

    return read


def _integer(low: int, high: int) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise _unreadable(name, text, "give a whole number") from None
        in_range(name, number, low, high)
        return number

    return read


def _switch(name: str, text: str) -> bool:
    if text.casefold() not in ("true", "false"):
        raise _unreadable(name, text, "give True or False")
    return text.casefold() == "true"


def _listed(one: Callable[[str, str], Any], lengths: Sequence[int]) -> Callable[[str, str], Any]:
    def read(name: str, text: str) -> tuple[Any, ...]:
        values = tuple(one(name, part.strip()) for part in text.split(","))
        if len(values) not in lengths:
            raise _unreadable(
                name,
                f"{len(values)} values",
                "give " + " or ".join(f"{n} (of {_OF[n]})" for n in lengths),
            )
        return values

    return read


def _weights(name: str, text: str) -> Weights:
    """Read a weight for each block (an empty one is 0), or the name of a shape, such as
    `sine+.25`.
    """
    shape, _, added = text.partition("+")
    if shape in SHAPES:
        return (shape, _WEIGHT(name, added) if added else 0.0)
    if "," not in text:
        raise _unreadable(
            name, text, f"give a weight for each block, or one of {', '.join(SHAPES)}"
        )
    weights: tuple[float, ...] = _listed(_WEIGHT_OR_NONE, SIDES)(name, text)
    return weights


def _weight_or_none(name: str, text: str) -> float:
    return _WEIGHT(name, text) if text else 0.0


_OF: Final = {25: "SD 1 and 2", 23: "SDXL", 12: "SD 1 and 2", 9: "SDXL", 1: "SD 1 and 2", 3: "SDXL"}
_WEIGHT: Final = _number(0, 1000)
_WEIGHT_OR_NONE: Final = _weight_or_none
_RANK: Final = _integer(0, 4096)
_ALPHA: Final = _number(0, 65536)
_TOTAL: Final = tuple(TOTALS.values())
# All of a rank cannot be left out: what is kept is scaled up by 1 / (1 - p).
_CHANCE: Final = _number(0, 0.95)
_RATIO: Final = _number(0.001, 1000)

ARGS: Final[Mapping[str, Arg]] = {
    "conv_dim": Arg(
        _RANK,
        "conv_dim",
        "rank of the 3x3 convolutions; with it the convolutional blocks are trained",
    ),
    "conv_alpha": Arg(
        _ALPHA,
        "conv_alpha",
        "their alpha: 1 where it is not given (`lycoris.kohya`: `network_alpha`)",
    ),
    "dora_wd": Arg(
        _switch,
        "dora",
        "DoRA: the magnitudes of a layer's columns are trained apart from their directions",
    ),
    "rs_lora": Arg(
        _switch, "rank_stabilized", "rsLoRA: alpha / sqrt(rank), so that a high rank learns as fast"
    ),
    "factor": Arg(
        _integer(-1, 4096),
        "factor",
        "how a layer is split: -1 for the smallest file, 4 to 16 hold more",
        "lokr",
    ),
    "decompose_both": Arg(
        _switch, "decompose_both", "both factors have low rank, not only the larger one", "lokr"
    ),
    "use_cp": Arg(
        _switch,
        "tucker",
        "the kernel of a 3x3 convolution is a factor of its own: much smaller files (LoCon, LoHa)",
    ),
    "use_tucker": Arg(_switch, "tucker", "another name of `use_cp`"),
    "use_conv_cp": Arg(_switch, "tucker", "another name of `use_cp`"),
    "train_norm": Arg(
        _switch,
        "norms",
        "the norms of the UNet's trained blocks learn a change of their weights and biases",
    ),
    "rank_dropout": Arg(_CHANCE, "rank_dropout", "chance of each rank to be left out for an image"),
    "module_dropout": Arg(
        _CHANCE, "module_dropout", "chance of a module to be left out for a batch"
    ),
    "block_dims": Arg(
        _listed(_RANK, _TOTAL), "block_dims", "rank of each block of the UNet; 0: it is left out"
    ),
    "block_alphas": Arg(_listed(_ALPHA, _TOTAL), "block_alphas", "alpha of each block"),
    "conv_block_dims": Arg(
        _listed(_RANK, _TOTAL), "conv_block_dims", "as block_dims, for the 3x3 convolutions"
    ),
    "conv_block_alphas": Arg(
        _listed(_ALPHA, _TOTAL), "conv_block_alphas", "as block_alphas, for the 3x3 convolutions"
    ),
    "down_lr_weight": Arg(
        _weights, "down_weights", "each down block's share of `unet_lr`; 0: it is left out"
    ),
    "mid_lr_weight": Arg(
        _listed(_WEIGHT_OR_NONE, tuple(MIDDLES.values())), "mid_weights", "of each middle block"
    ),
    "up_lr_weight": Arg(_weights, "up_weights", "of each up block, the innermost first"),
    "block_lr_zero_threshold": Arg(_WEIGHT, "zero_threshold", "weights up to this one are 0"),
    "loraplus_lr_ratio": Arg(
        _RATIO, "plus", "LoRA+: how much faster the second factor is trained; 4 to 16"
    ),
    "loraplus_unet_lr_ratio": Arg(_RATIO, "plus_unet", "the same for the UNet alone"),
    "loraplus_text_encoder_lr_ratio": Arg(
        _RATIO, "plus_text", "the same for the text encoders alone"
    ),
}
# Only LyCORIS has these; they are read before the others.
OF_LYCORIS: Final = ("algo", "preset")
# LyCORIS' methods that cannot be made sound: why. Checked with lycoris-lora 4.1.3.
REFUSED_ALGOS: Final[Mapping[str, str]] = {
    "ia3": "LyCORIS cannot read its own files of it, and what they change depends on the base's "
    "weights, so a file cannot be checked",
    "dylora": "LyCORIS trains it at another strength than that of the file: its files act "
    "differently from what was trained",
}
# Not supported, unless off: what to do instead.
REFUSED: Final[Mapping[str, str]] = {
    "wd_on_output": "magnitudes are of the input axis: the one that ComfyUI, A1111 and LyCORIS "
    "all read alike",
    "dropout": "use network_dropout",
    "full_matrix": "a network_dim as large as the layer makes LoKr's factors full",
    "unbalanced_factorization": "give a factor",
    "use_scalar": "the second factor starts at zero instead",
    "bypass_mode": "it changes the speed, not what is learned",
    "network_reg_dims": "block_dims gives each block its rank",
    "network_reg_lrs": "down_lr_weight, mid_lr_weight and up_lr_weight give each block its rate",
    "exclude_patterns": "a block of rank 0 is left out",
    "include_patterns": "conv_dim adds the convolutional blocks",
}
# Many files set these; nothing depends on them.
_IDLE: Final = frozenset({"verbose", "no_dim_warn", "rank_dropout_scale", "disable_conv_cp"})
_OFF: Final = frozenset({"", "0", "0.0", "false", "none"})


def read(
    network_module: str, network_args: Sequence[str], *, dim: int, alpha: float
) -> NetworkArgs:
    """Read the arguments of a network. dim, alpha: those of LyCORIS's convolutions by default.

    Raises ConfigError for an argument that is not known (with the nearest that is), is given twice,
    cannot be read or belongs to another method.
    """
    pairs = _pairs(network_args)
    algo = MODULES.get(network_module) or _algo(pairs.pop("algo", "lora"))
    given: dict[str, Any] = {}
    if network_module == LYCORIS:
        preset = pairs.pop("preset", "full")
        if preset not in PRESETS:
            raise _unreadable("preset", preset, "choose " + ", ".join(PRESETS))
        if PRESETS[preset]:
            given = {"conv_dim": dim, "conv_alpha": alpha}
    for name, text in pairs.items():
        if name in _IDLE or (name in REFUSED and text.casefold() in _OFF):
            continue
        given |= _field(name, text, algo)
    made = NetworkArgs(**{"algo": algo, **given})
    _check(made)
    return made


def _pairs(network_args: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in network_args:
        name, sign, text = (part.strip() for part in pair.partition("="))
        if not sign or pairs.get(name, text) != text:  # the GUI of kohya_ss writes some twice
            raise ConfigError(
                f"network_args: {pair!r}", hint="give each argument once, as name=value"
            )
        pairs[name] = text
    return pairs


def _algo(name: str) -> Algo:
    if reason := REFUSED_ALGOS.get(name.casefold()):
        raise ConfigError(
            f"network_args: algo = {name} is not supported: {reason}",
            hint=f"choose {', '.join(ALGOS)}",
        )
    if name.casefold() not in ALGOS:
        raise _unreadable("algo", name, "choose " + ", ".join(ALGOS))
    return ALGOS[name.casefold()]


def _field(name: str, text: str, algo: Algo) -> dict[str, Any]:
    if name in REFUSED:
        hint = f"{REFUSED[name]}: remove it, or switch it off"
        raise ConfigError(f"network_args: {name} = {text} is not supported", hint=hint)
    if name in OF_LYCORIS:
        modules = ", ".join(MODULES)
        raise ConfigError(
            f"network_args: {name} belongs to network_module = {LYCORIS!r}",
            hint=f"or use one of {modules}",
        )
    if name not in ARGS:
        hint = did_you_mean(name, [*ARGS, *OF_LYCORIS], f"choose {', '.join(ARGS)}", form="'{}'")
        raise ConfigError(f"network_args: unknown argument {name!r}", hint=hint)
    arg = ARGS[name]
    if arg.only not in (None, algo):
        raise ConfigError(
            f"network_args: {name} belongs to {arg.only}, and this is {algo}", hint="take it out"
        )
    return {arg.field: arg.read(name, text)}


def _check(args: NetworkArgs) -> None:
    """Raise ConfigError for arguments that contradict each other."""
    if args.conv_alpha is not None and not args.convolutions:
        raise ConfigError(
            "network_args: conv_alpha needs a conv_dim", hint="give conv_dim, such as conv_dim=8"
        )
    if args.conv_block_alphas and not args.conv_block_dims:
        raise ConfigError(
            "network_args: conv_block_alphas needs conv_block_dims", hint="give conv_block_dims too"
        )
    _check_method(args)
    sides = args.sides
    lists: tuple[tuple[str, tuple[Any, ...], Mapping[int, int]], ...] = (
        ("block_dims", args.block_dims, TOTALS),
        ("block_alphas", args.block_alphas, TOTALS),
        ("conv_block_dims", args.conv_block_dims, TOTALS),
        ("conv_block_alphas", args.conv_block_alphas, TOTALS),
        ("mid_lr_weight", args.mid_weights, MIDDLES),
        ("down_lr_weight", args.down_weights, {n: n for n in SIDES}),
        ("up_lr_weight", args.up_weights, {n: n for n in SIDES}),
    )
    for name, values, lengths in lists:
        if sides and values and not isinstance(values[0], str) and len(values) != lengths[sides]:
            message = (
                f"network_args: {name} has {len(values)} values, and another list is made "
                f"for {_OF[sides]}"
            )
            blocks = f"{sides} + {MIDDLES[sides]} + {sides}"
            raise ConfigError(
                message,
                hint=f"{_OF[sides]} has {blocks} blocks; lists of all have {TOTALS[sides]} values",
            )


def _check_method(args: NetworkArgs) -> None:
    """Raise ConfigError for arguments that the method does not have."""
    if args.tucker and args.algo == "lokr":
        raise ConfigError(
            "network_args: use_cp is not supported with algo = lokr: LyCORIS cannot read its own "
            "files of it",
            hint="take it out, or take algo=loha",
        )
    method = "use_cp" if args.tucker and args.algo == "lora" else f"algo = {args.algo}"
    if method == "use_cp" or args.algo == "full":
        given = {
            "dora_wd": args.dora,
            "rank_dropout": args.rank_dropout,
            "module_dropout": args.module_dropout,
            "rs_lora": args.rank_stabilized and args.algo == "full",
            "use_cp": args.tucker and args.algo == "full",
        }
        if names := [name for name, value in given.items() if value]:
            raise ConfigError(
                f"network_args: {names[0]} is not supported with {method}", hint="take it out"
            )
    if args.tucker and args.dora:
        raise ConfigError(
            "network_args: dora_wd is not supported with use_cp", hint="take one of them out"
        )
    if args.tucker and not args.convolutions:
        raise ConfigError(
            "network_args: use_cp needs a conv_dim", hint="give conv_dim, such as conv_dim=8"
        )


def _unreadable(name: str, text: str, hint: str) -> ConfigError:
    return ConfigError(f"network_args: {name} = {text}", hint=hint)
