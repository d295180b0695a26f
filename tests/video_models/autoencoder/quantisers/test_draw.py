"""Drawing latents out of a batch that is spread over ranks."""

import torch

from tests.video_models.autoencoder.quantisers.latents import distances, run_ranks
from video_models.autoencoder.quantisers.code import alone
from video_models.autoencoder.quantisers.draw import draw_latents


def rows_of(num, *, dim=4, seed=0):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed))


def test_what_is_drawn_are_latents_that_differ():
    rows = rows_of(500)
    drawn = draw_latents(rows, 100, step=1, reduce=alone)
    assert len(drawn) == 100
    nearest = distances(drawn, rows).min(dim=1)
    assert nearest.values.max() < 1e-5
    assert len(nearest.indices.unique()) == 100


def test_latents_that_are_alike_are_drawn_once():
    rows = torch.cat((rows_of(1).expand(1000, -1), rows_of(50, seed=1)))
    drawn = draw_latents(rows, 400, step=1, reduce=alone)
    assert len(torch.unique((drawn * 1e4).round(), dim=0)) == len(drawn) > 30


def test_another_step_draws_others_and_the_same_step_the_same():
    rows = rows_of(500)
    first, again, other = (draw_latents(rows, 20, step=s, reduce=alone) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert distances(first, other).min(dim=1).values.median() > 0.01


def test_order_and_ranks_do_not_matter():
    rows = rows_of(500)
    expected = draw_latents(rows, 50, step=3, reduce=alone)
    shuffled = rows[torch.randperm(500, generator=torch.Generator().manual_seed(2))]
    parts = shuffled.split([0, 120, 380])

    def work(rank, reduce):
        return draw_latents(parts[rank], 50, step=3, reduce=reduce)

    for drawn in run_ranks(work, num_ranks=3):
        torch.testing.assert_close(drawn, expected)


def test_rounding_errors_of_the_network_hardly_matter():
    rows = rows_of(2000)
    noisy = rows * (1 + 1e-7 * rows_of(2000, seed=1))
    one, other = (draw_latents(r, 200, step=1, reduce=alone) for r in (rows, noisy))
    kept = distances(one, other).min(dim=1).values < 1e-4
    assert kept.float().mean() > 0.9


def test_every_latent_is_about_as_likely():
    rows = rows_of(300)
    hits = torch.zeros(300)
    for step in range(200):
        drawn = draw_latents(rows, 20, step=step, reduce=alone)
        hits[distances(drawn, rows).argmin(dim=1)] += 1
    assert hits.mean() > 10
    assert hits.min() > 0
    assert hits.max() < 4 * hits.mean()


def test_nothing_is_drawn_from_nothing():
    assert draw_latents(rows_of(0), 10, step=0, reduce=alone).shape == (0, 4)
