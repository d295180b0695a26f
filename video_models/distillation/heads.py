"""Small trained heads that judge the tokens of a frozen network, and the game that they play.

Sauer et al. 2024 (ADD, arXiv 2311.17042; LADD, arXiv 2403.12015): a discriminator is a frozen
network's features and a head on each of them. Heads see a token's neighbours in space and time, so
that motion is judged too, and are told the condition by projection.

Legend: B samples, N = F R Q tokens of a grid of frames, rows and columns, D their width, K width of
the condition.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.objectives.adversarial import discriminator_hinge, gradient_penalty

Grid = tuple[int, int, int]
Features = Sequence[Tensor]
"""Tokens (B, N, D) after several blocks of a frozen network."""

Judge = Callable[[Features, Grid, Tensor | None], Tensor]
"""`Heads`, or a copy of them that gathers no gradient."""


class TokenHead(nn.Module):
    """Judge every token of a grid by its neighbours and the condition.

    Miyato & Koyama 2018, arXiv 1802.05637: logit = w h + <V c, h>.

    Args:
        dim: D.
        condition_dim: K; 0 takes no condition.
        width: channels of the head.
    """

    def __init__(self, dim: int, *, condition_dim: int, width: int = 64) -> None:
        super().__init__()
        self.enter = nn.Conv3d(dim, width, 1)
        self.around = nn.Conv3d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(1, width)
        self.score = nn.Conv3d(width, 1, 1)
        self.project = nn.Linear(condition_dim, width, bias=False) if condition_dim else None

    def forward(self, tokens: Tensor, grid: Grid, condition: Tensor | None = None) -> Tensor:
        """Return logits (B, N).

        Args:
            tokens: (B, N, D), in (frame, row, column) order.
            grid: F, R, Q.
            condition: (B, K).
        """
        x = torch.unflatten(tokens.transpose(1, 2), 2, grid)  # (B, D, F, R, Q)
        x = F.leaky_relu(self.enter(x), 0.2)
        x = x + F.leaky_relu(self.norm(self.around(x)), 0.2)
        logits: Tensor = self.score(x)[:, 0]
        if self.project is not None and condition is not None:
            logits = logits + torch.einsum("bw,bwfrq->bfrq", self.project(condition), x)
        return logits.flatten(1)


class Heads(nn.Module):
    """One head for each of a frozen network's features.

    Args:
        dims: width of each feature.
        condition_dim: K; 0 takes no condition.
        width: channels of each head.
    """

    def __init__(self, dims: Sequence[int], *, condition_dim: int = 0, width: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            TokenHead(dim, condition_dim=condition_dim, width=width) for dim in dims
        )

    def forward(self, features: Features, grid: Grid, condition: Tensor | None = None) -> Tensor:
        """Return the logits of all heads side by side, (B, heads x N).

        Raises:
            ValueError: there are more or fewer features than heads.
        """
        if len(features) != len(self.heads):
            raise ValueError(f"{len(features)} features for {len(self.heads)} heads")
        judged = [
            head(tokens, grid, condition) for head, tokens in zip(self.heads, features, strict=True)
        ]
        return torch.cat(judged, dim=1)

    def penalty(self, features: Features, grid: Grid, condition: Tensor | None = None) -> Tensor:
        """Return R1 of the heads at the features of real samples, summed over heads; (B,).

        It is taken by the features that the heads are fed, not by pixels or latents: the frozen
        network stays out of the second derivative. Each head is judged by the mean of its logits.
        """
        penalties = [
            gradient_penalty(lambda x, head=head: head(x, grid, condition), tokens)  # type: ignore[misc]
            for head, tokens in zip(self.heads, features, strict=True)
        ]
        return torch.stack(penalties).sum(dim=0)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What heads said of real and fake samples, and what they are to learn from it."""

    loss: Tensor
    """Hinge and R1 of each pair, (B,)."""

    real: Tensor
    """Logits of the real samples, (B, heads x N), without gradient."""

    fake: Tensor
    """Logits of the student's samples, the same."""


def tell_apart(
    heads: Heads,
    real: Features,
    fake: Features,
    *,
    grid: Grid,
    condition: Tensor | None = None,
    r1: float = 0.0,
) -> Verdict:
    """Return the heads' side of the game, hinge and R1.

    Args:
        heads: trained.
        real: features of real samples; no gradient goes further.
        fake: features of the student's; nor there.
        grid: of the tokens.
        condition: what the heads are told, (B, K).
        r1: weight of the penalty at the real features.
    """
    real, fake = ([tokens.detach() for tokens in features] for features in (real, fake))
    up, down = heads(real, grid, condition), heads(fake, grid, condition)
    loss = discriminator_hinge(up, down)
    if r1:
        loss = loss + r1 * heads.penalty(real, grid, condition)
    return Verdict(loss=loss, real=up.detach(), fake=down.detach())
