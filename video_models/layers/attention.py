"""Multi-head attention with RMS-normalised queries and keys, and the kernels that it can run on.

The kernel is a plain function that the caller passes in, so that sequence parallelism, packing or
a kernel that supports forward-mode derivatives (`attend_plainly`) can take its place.

Legend: B batch, S query tokens, L key tokens, H heads, d channels of a head, D = H d width.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.linear import Linear
from video_models.layers.norms import WideRMSNorm
from video_models.layers.rope import Rotation, rotate

AttentionFunction = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(q, k, v, mask) -> out: q and out (B, S, H, d), k and v (B, L, H, d), mask (B, L) bool with True
for keys that are seen, or None for all."""

KeysValues = tuple[Tensor, Tensor]
"""Normalised keys and values, (B, L, H, d) each."""

QKNorm = Literal["across_heads", "per_head", "none"]
"""Over what queries and keys are normalised: all heads together, each head, or nothing."""


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
    split, or each head by itself, or not at all. Without `output` there is no layer behind the
    heads, for who takes queries, keys and values apart.

    Attributes:
        function: the kernel; may be replaced at any time.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        eps: float,
        function: AttentionFunction,
        qk_norm: QKNorm = "across_heads",
        output: bool = True,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.function = function
        self.qk_norm = qk_norm
        self.to_q = Linear(dim, dim)
        self.to_k = Linear(dim, dim)
        self.to_v = Linear(dim, dim)
        self.norm_q = head_norm(dim, num_heads, eps, qk_norm)
        self.norm_k = head_norm(dim, num_heads, eps, qk_norm)
        self.to_out = nn.ModuleList([Linear(dim, dim)] if output else [])

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        turn: Rotation | None = None,
        keys_values: KeysValues | None = None,
        added: KeysValues | None = None,
        function: AttentionFunction | None = None,
    ) -> Tensor:
        """Return the attended tokens, (B, S, D).

        Args:
            x: tokens that ask, (B, S, D).
            context: tokens that answer, (B, L, D); None for x itself.
            mask: which of them are seen, (B, L) bool.
            turn: rotary positions of x; only without a context.
            keys_values: what `keys_values(context)` returned, in the context's place.
            added: keys and values of further tokens, attended to apart; both answers are summed.
            function: the kernel of this call; None for the module's own.
        """
        function = function or self.function
        q = self.queries(x)
        k, v = keys_values or self.keys_values(x if context is None else context)
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        out = function(q, k, v, mask)  # (B, S, H, d)
        if added is not None:
            out = out + function(q, *added, None)
        projected: Tensor = self.to_out[0](out.flatten(-2).type_as(x))
        return projected

    def queries(self, x: Tensor) -> Tensor:
        """Return what the tokens ask, (B, S, H, d)."""
        return self.split_normed(self.to_q(x), self.norm_q)

    def keys_values(self, context: Tensor) -> KeysValues:
        """Return what the tokens of a context answer with, (B, L, H, d) each."""
        values: Tensor = self.to_v(context)
        return self.split_normed(self.to_k(context), self.norm_k), self.split(values)

    def split(self, x: Tensor) -> Tensor:
        """Return the heads of (B, S, D) apart, (B, S, H, d)."""
        return torch.unflatten(x, -1, (self.num_heads, -1))

    def split_normed(self, x: Tensor, norm: nn.Module) -> Tensor:
        """Return the heads of (B, S, D) apart and normalised, (B, S, H, d)."""
        if self.qk_norm == "across_heads":
            return self.split(norm(x))
        normed: Tensor = norm(self.split(x))
        return normed


def head_norm(dim: int, num_heads: int, eps: float, kind: QKNorm) -> nn.Module:
    """Return the norm of queries or keys."""
    if kind == "none":
        return nn.Identity()
    return WideRMSNorm(dim if kind == "across_heads" else dim // num_heads, eps=eps)
