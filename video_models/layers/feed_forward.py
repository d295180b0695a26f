"""The feed-forward network of a transformer block: linear, GELU, linear, each token by itself."""

from torch import Tensor, nn

from video_models.layers.gelu import Gelu
from video_models.layers.linear import Linear, gelu_of


class ProjectedGelu(nn.Module):
    """The first half of a feed-forward network."""

    def __init__(self, dim: int, ffn_dim: int, *, approximate: Gelu = "tanh"):
        super().__init__()
        self.proj = Linear(dim, ffn_dim)
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """Return gelu(x W^T + b)."""
        return gelu_of(self.proj, x, self.approximate)


class FeedForward(nn.Module):
    """Linear, GELU, linear.

    Args:
        dim: width of what comes in.
        ffn_dim: inner width.
        dim_out: width of what goes out; None for `dim`.
        approximate: `tanh` for the approximation that Wan's blocks were trained with.
    """

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        *,
        dim_out: int | None = None,
        approximate: Gelu = "tanh",
    ):
        super().__init__()
        # Published models keep a dropout at number 1.
        self.net = nn.Sequential(
            ProjectedGelu(dim, ffn_dim, approximate=approximate),
            nn.Identity(),
            Linear(ffn_dim, dim_out or dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, S, dim_out)."""
        projected: Tensor = self.net(x)
        return projected
