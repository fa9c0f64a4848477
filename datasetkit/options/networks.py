"""The network that is trained: its method, ranks, rates and dropouts, as `network_args`
give them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

# cp: of a LoCon with use_cp, its convolutions. full: of LyCORIS, a matrix for each layer. norm: of
# a norm with train_norm.
Algo = Literal["lora", "loha", "lokr", "cp", "full", "norm"]
# network_module -> the method. LyCORIS names its own by `algo`.
MODULES: Final[Mapping[str, Algo]] = {
    "networks.lora": "lora",
    "networks.loha": "loha",
    "networks.lokr": "lokr",
}
LYCORIS: Final = "lycoris.kohya"
ALGOS: Final[Mapping[str, Algo]] = {
    "lora": "lora",
    "locon": "lora",
    "loha": "loha",
    "lokr": "lokr",
    "full": "full",
}
# LyCORIS's presets: with the convolutional blocks, or the attention blocks alone.
PRESETS: Final[Mapping[str, bool]] = {"full": True, "attn-mlp": False}
# Shapes of block weights along a list, under sd-scripts' names.
SHAPES: Final = ("sine", "cosine", "linear", "reverse_linear", "zeros")
# Blocks of a UNet: down (or up) and middle. All are counted with the first and the last layer,
# which have no LoRA: 25 in Stable Diffusion 1 and 2, whose first counts as a down block, and 23 in
# SDXL.
SIDES: Final = (12, 9)
MIDDLES: Final = {12: 1, 9: 3}
TOTALS: Final = {12: 25, 9: 23}

# A weight for each down (or up) block, or the name of a shape and what is added to it.
Weights = tuple[float, ...] | tuple[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkArgs:
    """The arguments of a network, read.

    conv_dim: rank of the 3x3 convolutions; None: the convolutional blocks are not trained, 0: of
    them only their linear and 1x1 layers, which have network_dim. dora: the magnitudes are trained
    apart from the directions (arXiv:2402.09353). rank_stabilized: alpha / sqrt(rank) in place of
    alpha / rank (arXiv:2312.03732). factor, decompose_both: of LoKr. tucker:
    the kernel of a convolution is a factor of its own (LyCORIS' use_cp). norms: those of the UNet
    are trained (LyCORIS' train_norm). Block lists are of Stable
    Diffusion's 25 (12 + 1 + 12) or SDXL's 23 (9 + 3 + 9) blocks. plus: how much faster the second
    factor of a module is trained (LoRA+, arXiv:2402.12354), of all and of a part.
    """

    algo: Algo = "lora"
    conv_dim: int | None = None
    conv_alpha: float | None = None
    dora: bool = False
    rank_stabilized: bool = False
    factor: int = -1
    decompose_both: bool = False
    tucker: bool = False
    norms: bool = False
    rank_dropout: float = 0.0
    module_dropout: float = 0.0
    block_dims: tuple[int, ...] = ()
    block_alphas: tuple[float, ...] = ()
    conv_block_dims: tuple[int, ...] = ()
    conv_block_alphas: tuple[float, ...] = ()
    down_weights: Weights = ()
    mid_weights: tuple[float, ...] = ()
    up_weights: Weights = ()
    zero_threshold: float = 0.0
    plus: float | None = None
    plus_unet: float | None = None
    plus_text: float | None = None

    @property
    def convolutions(self) -> bool:
        """Tell whether the convolutional blocks are trained as well."""
        return self.conv_dim is not None or bool(self.conv_block_dims)

    @property
    def has_lists(self) -> bool:
        """Tell whether any list of blocks is given."""
        lists = (self.block_dims, self.block_alphas, self.conv_block_dims, self.conv_block_alphas)
        return any((*lists, self.down_weights, self.mid_weights, self.up_weights))

    @property
    def title(self) -> str:
        """Return what people call the network."""
        locon = "LoCon" if self.convolutions else "LoRA"
        method = {"loha": "LoHa", "lokr": "LoKr", "full": "full matrices"}.get(self.algo, locon)
        kinds = (
            ("CP decomposition", self.tucker),
            ("norms", self.norms),
            ("DoRA", self.dora),
            ("rank-stabilised", self.rank_stabilized),
            ("LoRA+", self.plus is not None),
        )
        return ", ".join((method, *(name for name, on in kinds if on)))

    @property
    def sides(self) -> int | None:
        """Return the number of down blocks that the lists are made for; None where any will do."""
        for given, of in (
            (self.block_dims, TOTALS),
            (self.block_alphas, TOTALS),
            (self.conv_block_dims, TOTALS),
            (self.conv_block_alphas, TOTALS),
            (self.mid_weights, MIDDLES),
        ):
            if given:
                return next(side for side, number in of.items() if number == len(given))
        for weights in (self.down_weights, self.up_weights):
            if weights and not isinstance(weights[0], str):
                return len(weights)
        return None
