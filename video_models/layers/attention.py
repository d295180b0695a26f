"""Multi-head attention with RMS-normalised queries and keys, and the kernels that it can run on.

The kernel is a plain function that the caller passes in, so that sequence parallelism, packing or
a kernel that supports forward-mode derivatives (`attend_plainly`) can take its place.

Legend: B batch, S query tokens, L key tokens, H heads, d channels of a head, D = H d width.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.norms import WideRMSNorm
from video_models.layers.rope import Rotation, rotate

AttentionFunction = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(q, k, v, mask) -> out: q and out (B, S, H, d), k and v (B, L, H, d), mask (B, L) bool with True
for keys that are seen, or None for all."""


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend with PyTorch's fastest kernel for the device."""
    where = None if mask is None else mask[:, None, None]  # (B, 1, 1, L)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, S, d)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=where).transpose(1, 2)


def attend_plainly(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend by the formula; slower, and differentiable in every mode and to every order."""
    scores = torch.einsum("bshd,blhd->bhsl", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
    return torch.einsum("bhsl,blhd->bshd", scores.softmax(dim=-1), v)


class Attention(nn.Module):
    """Attention of tokens to themselves or to a context.

    Queries and keys are normalised over the whole width, all heads together, before the heads are
    split.

    Attributes:
        function: the kernel; may be replaced at any time.
    """

    def __init__(self, dim: int, *, num_heads: int, eps: float, function: AttentionFunction):
        super().__init__()
        self.num_heads = num_heads
        self.function = function
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(dim, dim)
        self.to_v = nn.Linear(dim, dim)
        self.norm_q = WideRMSNorm(dim, eps=eps)
        self.norm_k = WideRMSNorm(dim, eps=eps)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        turn: Rotation | None = None,
    ) -> Tensor:
        """Return the attended tokens, (B, S, D).

        Args:
            x: tokens that ask, (B, S, D).
            context: tokens that answer, (B, L, D); None for x itself.
            mask: which of them are seen, (B, L) bool.
            turn: rotary positions of x; only without a context.
        """
        context = x if context is None else context
        q, k, v = self.norm_q(self.to_q(x)), self.norm_k(self.to_k(context)), self.to_v(context)
        q, k, v = (y.unflatten(-1, (self.num_heads, -1)) for y in (q, k, v))  # (B, S, H, d)
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        out = self.function(q, k, v, mask).flatten(-2)  # (B, S, D)
        projected: Tensor = self.to_out[0](out.type_as(x))
        return projected
