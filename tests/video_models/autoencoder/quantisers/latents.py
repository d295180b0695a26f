"""Latents to quantise, and the ranks that share them."""

import torch


def latents_of(dim, *, batch=2, frames=3, side=4, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, dim, frames, side, side, generator=generator)


def distances(one, other):
    """Return the distance of each row of one to each row of the other."""
    return (one[:, None] - other).norm(dim=-1)


def whole_codebook(quantiser):
    """Return every index once, as (B, T, H, W) with B = 1."""
    return torch.arange(quantiser.codebook_size).view(1, -1, 1, 1)


def run_ranks(work, num_ranks=2):
    """Run `work(rank, reduce)` once a rank, in lockstep: `reduce` sums over the ranks in place.

    Each rank is a thread, and a barrier makes every `reduce` a collective.
    """
    import threading
    from concurrent.futures import ThreadPoolExecutor

    barrier = threading.Barrier(num_ranks, timeout=20)
    given = [None] * num_ranks

    def reduce_on(rank):
        def reduce(tensor):
            given[rank] = tensor.clone()
            barrier.wait()
            tensor.copy_(torch.stack(given).sum(dim=0))
            barrier.wait()

        return reduce

    with ThreadPoolExecutor(num_ranks) as pool:
        futures = [pool.submit(work, rank, reduce_on(rank)) for rank in range(num_ranks)]
        return [future.result() for future in futures]
