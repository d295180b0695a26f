"""The module tree of Wan's own autoencoders, for names and shapes alone: it computes nothing.

Written down from Wan-Video/Wan2.1 `wan/modules/vae.py` and Wan-Video/Wan2.2 `vae2_2.py`, apart from
the code under test.
"""

from itertools import pairwise

import torch
from torch import nn


class Gain(nn.Module):
    def __init__(self, dim, axes=3):
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(dim, *[1] * axes) + 0.5)


def tree(**children):
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


def residual(dim, out):
    layers = (Gain(dim), nn.SiLU(), nn.Conv3d(dim, out, 3), Gain(out), nn.SiLU(), nn.Dropout())
    block = tree(residual=nn.Sequential(*layers, nn.Conv3d(out, out, 3)))
    if dim != out:
        block.add_module("shortcut", nn.Conv3d(dim, out, 1))
    return block


def resample(dim, out, *, time, up):
    sampler = tree(resample=nn.Sequential(nn.Identity(), nn.Conv2d(dim, out, 3)))
    if time:
        sampler.add_module("time_conv", nn.Conv3d(dim, 2 * dim if up else dim, (3, 1, 1)))
    return sampler


def middle(dim):
    attention = tree(
        norm=Gain(dim, 2), to_qkv=nn.Conv2d(dim, 3 * dim, 1), proj=nn.Conv2d(dim, dim, 1)
    )
    return nn.Sequential(residual(dim, dim), attention, residual(dim, dim))


def half(first, last, dims, *, blocks, time, up, nested):
    """One half: `dims` are the widths between levels, `time` says which resamplers change time."""
    levels = []
    for level, (dim, out) in enumerate(pairwise(dims)):
        if up and level and not nested:
            dim //= 2
        row = [residual(dim if i == 0 else out, out) for i in range(blocks)]
        if level < len(dims) - 2:
            target = out // 2 if up and not nested else out
            row.append(resample(out, target, time=time[level], up=up))
        levels.append(row)
    name = "upsamples" if up else "downsamples"
    if nested:
        samples = nn.Sequential(*(tree(**{name: nn.Sequential(*row)}) for row in levels))
    else:
        samples = nn.Sequential(*(block for row in levels for block in row))
    head = nn.Sequential(Gain(dims[-1]), nn.SiLU(), nn.Conv3d(dims[-1], last, 3))
    mid = dims[0] if up else dims[-1]
    return tree(
        conv1=nn.Conv3d(first, dims[0], 3), **{name: samples}, middle=middle(mid), head=head
    )


def wan(*, dim=4, dec_dim=4, z=4, mult=(1, 2, 4, 4), blocks=2, time=(False, True, True), nested):
    """The whole autoencoder; `nested` is Wan 2.2's."""
    pixels = 12 if nested else 3
    shape = {"nested": nested}
    return tree(
        encoder=half(
            pixels,
            2 * z,
            [dim * m for m in (1, *mult)],
            blocks=blocks,
            time=time,
            up=False,
            **shape,
        ),
        conv1=nn.Conv3d(2 * z, 2 * z, 1),
        conv2=nn.Conv3d(z, z, 1),
        decoder=half(
            z,
            pixels,
            [dec_dim * m for m in (mult[-1], *mult[::-1])],
            blocks=blocks + 1,
            time=time[::-1],
            up=True,
            **shape,
        ),
    )
