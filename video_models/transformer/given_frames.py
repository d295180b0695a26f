"""Image to video: frames that are given, as a transformer is told of them.

Wan 2.1 and 2.2 are given a mask and latents beside the noisy ones: the clip is encoded with zeros
in place of the frames that are not known, and one mask channel for each pixel frame of a latent
frame says which are (Wan Team 2025, arXiv 2503.20314, section 5.1.1). The 5B model of Wan 2.2 keeps
clean latents in the noisy clip instead, and its tokens there have time 0.

    condition = given_frames(given, latents, temporal_factor=4)
    velocity = model(noisy, t, text, condition=condition)

Legend: B batch, P pixel frames, C latent channels, (T, H, W) latent frames, rows, columns, f pixel
frames of a latent frame but the first, S tokens.
"""

import torch
from torch import Tensor

from video_models.transformer.spans import Grid


def frame_mask(given: Tensor, *, temporal_factor: int) -> Tensor:
    """Return which frames are given, latent frame by latent frame, (B, f, T).

    The first latent frame holds one pixel frame, which stands for all of its channels.

    Args:
        given: (B, P) bool.
        temporal_factor: f.

    Raises:
        ValueError: P is not 1 + f n.
    """
    frames = given.shape[1]
    if frames % temporal_factor != 1 % temporal_factor:
        raise ValueError(
            f"{frames} frames; with temporal_factor {temporal_factor} there are "
            f"{temporal_factor} n + 1"
        )
    first = given[:, :1].expand(-1, temporal_factor)
    by_channel = torch.cat((first, given[:, 1:]), dim=1)  # (B, T f)
    return torch.unflatten(by_channel, 1, (-1, temporal_factor)).mT


def given_frames(given: Tensor, latents: Tensor, *, temporal_factor: int) -> Tensor:
    """Return the condition of image to video, (B, f + C, T, H, W).

    Args:
        given: which pixel frames are given, (B, P) bool.
        latents: normalised latents of the clip with zeros in the other frames, (B, C, T, H, W).
        temporal_factor: f.
    """
    H, W = latents.shape[-2:]
    mask = frame_mask(given, temporal_factor=temporal_factor)[..., None, None]
    return torch.cat((mask.expand(-1, -1, -1, H, W).type_as(latents), latents), dim=1)


def token_times(t: Tensor, given: Tensor, grid: Grid) -> Tensor:
    """Return the time of each token, (B, S): 0 in latent frames that are given.

    Args:
        t: times of the others, (B,).
        given: which frames of tokens are given, (B, frames of the grid) bool.
        grid: of the tokens.
    """
    F, R, Q = grid
    times = torch.where(given, 0, t[:, None])  # (B, F)
    return times[..., None].expand(-1, F, R * Q).flatten(1)
