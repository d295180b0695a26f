"""Muon's directions, and what it is used for."""

import pytest
import torch
from torch import nn

from video_platform.errors import TrainingError
from video_platform.training.config import TrainingConfig
from video_platform.training.optimizers import Muon, open_optimizer, orthogonalise


def config(**knobs):
    return TrainingConfig(steps=4, batch_size=2, micro_batch_size=2, **knobs)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8))])

    def block_names(self):
        return ("blocks.0",)


@pytest.mark.parametrize("shape", [(16, 16), (48, 16), (16, 48), (3, 5, 32, 16)])
def test_singular_values_are_drawn_near_one_and_directions_stay(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    turned = orthogonalise(matrices)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ turned @ v.mT
    values = inner.diagonal(dim1=-2, dim2=-1)
    assert turned.shape == matrices.shape
    assert float(values.min()) > 0.6 and float(values.max()) < 1.25
    assert float((inner - torch.diag_embed(values)).abs().max()) < 1e-4


def test_the_scale_of_a_gradient_does_not_matter():
    matrix = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(orthogonalise(matrix * 1e-3), orthogonalise(matrix * 1e3), atol=1e-5)


def test_nothing_to_learn_gives_no_direction():
    assert torch.equal(orthogonalise(torch.zeros(4, 4)), torch.zeros(4, 4))


def test_muon_takes_the_matrices_of_blocks_and_adamw_the_rest():
    network = Network()
    optimizer = open_optimizer(network, config(optimizer="muon", weight_decay=0.5))
    assert isinstance(optimizer, Muon)
    turned, decayed, others = (group["params"] for group in optimizer.param_groups)
    assert [id(p) for p in turned] == [id(network.blocks[0][0].weight)]
    assert [id(p) for p in decayed] == [id(network.first.weight)]
    assert len(others) == 4
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.5, 0.0]


def test_a_network_without_blocks_is_refused():
    with pytest.raises(TrainingError, match="needs block_names"):
        open_optimizer(nn.Linear(3, 3), config(optimizer="muon"))


def test_a_frozen_matrix_is_left_alone():
    network = Network()
    network.blocks[0][0].weight.requires_grad_(False)
    assert isinstance(open_optimizer(network, config(optimizer="muon")), torch.optim.AdamW)


def test_a_step_before_bind_says_so():
    network = Network()
    optimizer = open_optimizer(network, config(optimizer="muon"))
    network.blocks[0][0].weight.grad = torch.ones(8, 6)
    for name in ("step", "exp_avg", "update"):
        optimizer.state[network.blocks[0][0].weight][name] = torch.zeros(8, 6)
    with pytest.raises(TrainingError, match="bind"):
        optimizer.step()
