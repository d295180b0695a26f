"""How much a clip moves, and how much it only flickers.

Legend: B clips, C channels, T frames, H W pixels, u v displacements in columns and rows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 7
"""Side of the window in which pixels are taken to move together."""
COARSEST = 12
"""Least height and width of a pyramid's level."""
FLAT = 1e-4
"""A window whose gradients are below tells no motion."""


def frame_change(video: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring frames, in units of the range; (B,).

    One minus it is the temporal flickering of VBench (Huang et al. 2023, arXiv 2311.17982), which
    is meant for still scenes: whatever moves changes too.

    Args:
        video: (B, C, T, H, W) in [-1, 1], T at least 2.
    """
    _check_frames(video, 2)
    return video.diff(dim=2).abs().flatten(1).mean(dim=1) / 2


def flicker(video: Tensor) -> Tensor:
    """Return the mean absolute second difference over frames, in units of the range; (B,).

    A change that goes on counts nothing, one that is taken back counts twice: frames that
    alternate between a and b have 2 |a - b|.

    Args:
        video: (B, C, T, H, W) in [-1, 1], T at least 3.
    """
    _check_frames(video, 3)
    return video.diff(n=2, dim=2).abs().flatten(1).mean(dim=1) / 2


def motion_magnitude(video: Tensor) -> Tensor:
    """Return how far what can be followed moves, in pixels a frame; (B,).

    The length of `optical_flow`, averaged over pixels with the strength of the gradient there: a
    flat background, whose motion nobody sees, counts nothing. A clip without a gradient has 0.
    """
    u, v, strength = optical_flow(video)
    length = torch.hypot(u, v)
    total = strength.flatten(1).sum(dim=1)
    moved = (length * strength).flatten(1).sum(dim=1)
    return torch.where(total > 0, moved / total.clamp_min(1e-12), 0.0)


@torch.no_grad()
def optical_flow(video: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the flow between neighbouring frames and how far it can be trusted.

    Lucas & Kanade 1981 on a pyramid (Bouguet 2001): in each window the displacement is the least
    squares solution of I_x u + I_y v + I_t = 0, found from coarse to fine, the second frame being
    warped by what is known, and smoothed over a window each time.

    Args:
        video: (B, C, T, H, W), T at least 2.

    Returns:
        u, v and the gradient's strength (the smaller eigenvalue of the window's structure), each
        (B, T - 1, H, W).
    """
    _check_frames(video, 2)
    B, _, T, H, W = video.shape
    gray = video.float().mean(dim=1)  # (B, T, H, W)
    one, other = (x.reshape(B * (T - 1), 1, H, W) for x in (gray[:, :-1], gray[:, 1:]))
    levels = [(one, other)]
    while min(levels[-1][0].shape[-2:]) >= 2 * COARSEST:
        one, other = (_halved(x) for x in levels[-1])
        levels.append((one, other))
    flow = torch.zeros(B * (T - 1), 2, *levels[-1][0].shape[-2:], dtype=torch.float32)
    flow = flow.to(video.device)
    for one, other in reversed(levels):
        size = one.shape[-2:]
        scale = size[0] / flow.shape[-2]
        flow = scale * F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
        for _ in range(3):
            update, strength = _update(one, _warped(other, flow))
            flow = _window(flow + update)
    u, v = flow.unbind(dim=1)
    return u.view(B, T - 1, H, W), v.view(B, T - 1, H, W), strength.view(B, T - 1, H, W)


def _update(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least squares displacement (N, 2, H, W) and the structure's smaller eigenvalue."""
    middle = F.pad((one + other) / 2, (1, 1, 1, 1), mode="replicate")
    dx = (middle[..., 1:-1, 2:] - middle[..., 1:-1, :-2]) / 2
    dy = (middle[..., 2:, 1:-1] - middle[..., :-2, 1:-1]) / 2
    dt = other - one
    xx, yy, xy, xt, yt = (_window(p) for p in (dx * dx, dy * dy, dx * dy, dx * dt, dy * dt))
    determinant = xx * yy - xy * xy
    half, root = (xx + yy) / 2, torch.hypot((xx - yy) / 2, xy)
    strength = (half - root).clamp_min(0)
    solvable = strength > FLAT
    safe = torch.where(solvable, determinant, 1.0)
    u = torch.where(solvable, (xy * yt - yy * xt) / safe, 0.0)
    v = torch.where(solvable, (xy * xt - xx * yt) / safe, 0.0)
    return torch.cat((u, v), dim=1).clamp(-2, 2), torch.where(solvable, strength, 0.0)


def _halved(x: Tensor) -> Tensor:
    """Return the next coarser level, smoothed so that fine patterns do not alias."""
    smooth = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return F.avg_pool2d(smooth, 2)


def _window(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)


def _warped(frame: Tensor, flow: Tensor) -> Tensor:
    """Return the frame read at each pixel's displaced place."""
    _, _, H, W = frame.shape
    rows, columns = torch.meshgrid(
        *(torch.arange(n, dtype=flow.dtype, device=flow.device) for n in (H, W)), indexing="ij"
    )
    places = torch.stack(
        (
            2 * (columns + flow[:, 0]) / max(W - 1, 1) - 1,
            2 * (rows + flow[:, 1]) / max(H - 1, 1) - 1,
        ),
        dim=-1,
    )
    return F.grid_sample(frame, places, padding_mode="border", align_corners=True)


def _check_frames(video: Tensor, least: int) -> None:
    if video.ndim != 5 or video.shape[2] < least:
        raise ValueError(
            f"video has shape {tuple(video.shape)}; give (B, C, T, H, W) with T of at least {least}"
        )
