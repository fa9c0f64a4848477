"""Initialise the VAE as a linear map, so that its training starts with an image instead of noise.

The encoder starts with the principal components of 4 x 4 patches, the decoder with each patch's
mean colour; the remaining weights are small and random. SiLU becomes linear with pairs of channels,
because silu(x) - silu(-x) = x, and GroupNorm nearly constant with a pair of large constants in each
group in use.
"""

from __future__ import annotations

from itertools import product
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.tools.tinybase.model import CHANNELS, VAE_FACTOR

_SMALL: Final = 0.1  # factor of the random weights beside the linear map
_ENCODED, _DECODED = 8.0, 3.0  # the large constants


def components(renders: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Return the mean of all 4 x 4 patches (48,) and their principal components, times 1 /
    deviation, (CHANNELS, 48).

    A patch is ordered as (row of 2 x 2, column, row in it, column in it, colour), from -1 to 1.
    """
    images = torch.from_numpy(np.array(renders)).float() / 127.5 - 1
    side = images.shape[1] // VAE_FACTOR
    patches = images.reshape(
        len(images), side, 2, 2, side, 2, 2, 3
    )  # n, y, Y, row, x, X, column, colour
    flat = patches.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, 3 * VAE_FACTOR**2).double()
    mean = flat.mean(dim=0)
    values, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    best = vectors[:, -CHANNELS:].flip(1) / values[-CHANNELS:].flip(0).sqrt()
    return mean.float(), best.T.float()


@torch.no_grad()
def initialize(vae: Any, images: NDArray[np.uint8]) -> None:
    """Write the linear map into a VAE."""
    for block in vae.modules():
        if hasattr(block, "conv1") and hasattr(block, "conv2"):
            block.conv2.weight.zero_()
            block.conv2.bias.zero_()
    mean, parts = components(images)
    _encoder(vae, mean, parts)
    _decoder(vae, mean, parts)


def _encoder(vae: Any, mean: Tensor, parts: Tensor) -> None:
    encoder = vae.encoder
    _pass(encoder.conv_in, range(3))
    _one(encoder.conv_in, 3)
    halve = encoder.down_blocks[0].downsamplers[0].conv
    _only(halve, range(13))
    for pixel in range(4):
        for colour in range(3):
            halve.weight[3 * pixel + colour, colour, pixel // 2, pixel % 2] = 1.0
    halve.weight[12, 3, 0, 0] = 1.0
    _pass(encoder.down_blocks[1].resnets[0].conv_shortcut, range(13))
    halve = encoder.down_blocks[1].downsamplers[0].conv
    _only(halve, range(CHANNELS + 1))
    for (row, column), weights in zip(
        product((0, 1), repeat=2), parts.reshape(CHANNELS, 4, 12).unbind(1), strict=True
    ):
        halve.weight[:CHANNELS, :12, row, column] = weights
    halve.bias[:CHANNELS] = -parts @ mean
    halve.weight[CHANNELS, 12, 0, 0] = 1.0
    _pairs(encoder.down_blocks[2].resnets[0].conv_shortcut, torch.eye(CHANNELS), CHANNELS, _ENCODED)
    group = vae.config.block_out_channels[-1] // vae.config.norm_num_groups
    spread = ((2 * _ENCODED**2 + 2 * CHANNELS) / group) ** 0.5
    _combine(encoder.conv_out, CHANNELS, spread)
    encoder.conv_out.weight[CHANNELS:] = 0.0
    encoder.conv_out.bias[CHANNELS:] = -5.0  # logarithm of the variance: hardly any noise
    _pass(vae.quant_conv, range(2 * CHANNELS))


def _decoder(vae: Any, mean: Tensor, parts: Tensor) -> None:
    decoder = vae.decoder
    _pass(vae.post_quant_conv, range(CHANNELS))
    colours = (
        torch.linalg.pinv(parts).reshape(16, 3, CHANNELS).mean(dim=0)
    )  # a component's share of the patch's colour
    _only(decoder.conv_in, range(CHANNELS + 4))
    decoder.conv_in.weight[:3, :, 1, 1] = colours
    decoder.conv_in.bias[:3] = mean.reshape(16, 3).mean(dim=0)
    decoder.conv_in.bias[3] = 1.0
    for channel in range(CHANNELS):
        decoder.conv_in.weight[4 + channel, channel, 1, 1] = 1.0
    carried = range(CHANNELS + 4)
    for number, block in enumerate(decoder.up_blocks):
        shortcut = block.resnets[0].conv_shortcut
        if number == 2:
            _pairs(shortcut, torch.eye(3), 3, _DECODED)
        elif shortcut is not None:
            _pass(shortcut, carried)
        if block.upsamplers is not None:
            _pass(block.upsamplers[0].conv, carried)
    group = vae.config.block_out_channels[0] // vae.config.norm_num_groups
    _combine(decoder.conv_out, 3, ((2 * _DECODED**2 + 1.5) / group) ** 0.5)


def _only(layer: nn.Conv2d, channels: range) -> None:
    """Zero the weights of some output channels, and scale down the others."""
    layer.weight *= _SMALL
    for channel in channels:
        layer.weight[channel] = 0.0
        _bias(layer)[channel] = 0.0


def _pass(layer: nn.Conv2d, channels: range) -> None:
    """Pass channels through unchanged."""
    _only(layer, channels)
    middle = layer.kernel_size[0] // 2
    for channel in channels:
        layer.weight[channel, channel, middle, middle] = 1.0


def _one(layer: nn.Conv2d, channel: int) -> None:
    layer.weight[channel] = 0.0
    _bias(layer)[channel] = 1.0


def _pairs(layer: nn.Conv2d, signals: Tensor, one: int, large: float) -> None:
    """Output each signal and its negative, and a large constant, from the channel `one`,
    likewise.
    """
    count = len(signals)
    _only(layer, range(layer.out_channels // 2))  # the first of two groups of GroupNorm
    for n in range(count):
        layer.weight[2 * n, : signals.shape[1], 0, 0] = signals[n]
        layer.weight[2 * n + 1, : signals.shape[1], 0, 0] = -signals[n]
    layer.weight[2 * count, one, 0, 0] = large
    layer.weight[2 * count + 1, one, 0, 0] = -large


def _combine(layer: nn.Conv2d, count: int, spread: float) -> None:
    """Recombine the pairs after SiLU and GroupNorm, which divided them by `spread`."""
    _only(layer, range(count))
    for n in range(count):
        layer.weight[n, 2 * n, 1, 1] = spread
        layer.weight[n, 2 * n + 1, 1, 1] = -spread


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
