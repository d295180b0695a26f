"""A discriminator that judges every patch of a clip as real or reconstructed.

PatchGAN (Isola et al. 2017, arXiv 1611.07004) with kernels over time as well. Frames are never
dropped and time is padded with zeros, so that a clip of one frame is judged as an image. Group
normalisation keeps the samples of a batch apart and needs no state.

Legend: B batch, C channels, T frames, H W pixels.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from video_models.autoencoder.discriminator_config import DiscriminatorConfig

GROUPS = 32
"""Groups of channels that are normalised together, or as many as divide the channels."""
WIDEST = 8
"""Most channels of a layer, in `base_dim`."""
SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Gives each patch of a clip a logit: above 0 for real, below for reconstructed.

    Args:
        config: sizes.
        channels: channels of the video.

    Attributes:
        config: what it was built from.
    """

    def __init__(self, config: DiscriminatorConfig, *, channels: int = 3):
        super().__init__()
        self.config = config
        dims = [config.base_dim * min(2**i, WIDEST) for i in range(config.num_layers + 1)]
        time = config.kernel_frames
        self.conv_in = _conv(channels, dims[0], time, stride=2)
        self.convs = nn.ModuleList(
            _conv(dims[i], dims[i + 1], time, stride=2 if i + 1 < config.num_layers else 1)
            for i in range(config.num_layers)
        )
        self.norms = nn.ModuleList(
            nn.GroupNorm(math.gcd(GROUPS, dims[i + 1]), dims[i + 1])
            for i in range(config.num_layers)
        )
        # The shifts of the norm before it already move all logits.
        self.conv_out = _conv(dims[-1], 1, time, stride=1, bias=False)

    def forward(self, video: Tensor) -> Tensor:
        """Return logits (B, 1, T, H', W') of clips (B, C, T, H, W) in [-1, 1].

        Raises:
            ValueError: the frames are too small for one patch.
        """
        smallest = self.config.smallest_side
        if min(video.shape[-2:]) < smallest:
            raise ValueError(
                f"a discriminator of num_layers {self.config.num_layers} judges frames of at least "
                f"{smallest} x {smallest} pixels, not {video.shape[-2]} x {video.shape[-1]}; "
                "lower adversarial.discriminator.num_layers"
            )
        x = F.leaky_relu(self.conv_in(video), SLOPE)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), SLOPE)
        logits: Tensor = self.conv_out(x)
        return logits


def _conv(in_dim: int, out_dim: int, time: int, *, stride: int, bias: bool = True) -> nn.Conv3d:
    """Convolve over 4 x 4 pixels, as PatchGAN does; frames keep their number."""
    return nn.Conv3d(
        in_dim,
        out_dim,
        (time, 4, 4),
        stride=(1, stride, stride),
        padding=(time // 2, 1, 1),
        bias=bias,
    )
