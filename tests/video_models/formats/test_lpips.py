"""Published layouts of LPIPS' weights, filled with random numbers."""

import pytest
import torch
from safetensors.torch import save_file

from video_models.formats.folder import ModelFormatError
from video_models.formats.lpips import open_lpips
from video_models.objectives.lpips import Lpips

SLICES = (4, 9, 16, 23, 30)
"""Where each of the five slices of the authors' package ends, in layers of VGG16."""


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Lpips()


def as_published(state):
    """Name weights as `lpips.LPIPS(net="vgg").state_dict()` does."""
    named = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}
    for name, tensor in state.items():
        first, rest = name.split(".", 1)
        if first == "features":
            layer = int(rest.split(".")[0])
            part = 1 + sum(layer >= end for end in SLICES)
            named[f"net.slice{part}.{rest}"] = tensor
        else:
            named[name] = tensor
            named[f"lins.{first[3:]}.{rest}"] = tensor.clone()
    return named


def same(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[n], theirs[n]) for n in mine)


def test_one_file_of_the_authors_package_opens(network, tmp_path):
    torch.save(as_published(network.state_dict()), tmp_path / "lpips.pth")
    assert same(open_lpips([tmp_path / "lpips.pth"]), network)


def test_torchvision_and_heads_open_as_two_files(network, tmp_path):
    state = network.state_dict()
    vgg = {n: t for n, t in state.items() if n.startswith("features.")}
    save_file(vgg | {"classifier.0.bias": torch.zeros(3)}, tmp_path / "vgg16.safetensors")
    torch.save({n: t for n, t in state.items() if n.startswith("lin")}, tmp_path / "vgg.pth")
    opened = open_lpips([tmp_path / "vgg16.safetensors", tmp_path / "vgg.pth"])
    assert same(opened, network)
    assert not any(parameter.requires_grad for parameter in opened.parameters())


def test_a_missing_part_is_named(network, tmp_path):
    state = network.state_dict()
    save_file(
        {n: t for n, t in state.items() if n != "lin3.model.1.weight"}, tmp_path / "a.safetensors"
    )
    with pytest.raises(ModelFormatError, match=r"1 of the 31 weights .* 'lin3.model.1.weight'"):
        open_lpips([tmp_path / "a.safetensors"])


def test_another_network_is_refused_by_shape(network, tmp_path):
    state = network.state_dict() | {"lin0.model.1.weight": torch.zeros(1, 96, 1, 1)}
    save_file(state, tmp_path / "alex.safetensors")
    with pytest.raises(
        ModelFormatError, match=r"shape \(1, 96, 1, 1\), VGG16's has \(1, 64, 1, 1\)"
    ):
        open_lpips([tmp_path / "alex.safetensors"])


@pytest.mark.parametrize("name", ["gone.safetensors", "gone.pth"])
def test_a_file_that_is_not_there_is_named(name, tmp_path):
    with pytest.raises(ModelFormatError, match=name):
        open_lpips([tmp_path / name])


def test_a_file_with_code_in_it_is_not_run(tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "code.pth")
    with pytest.raises(ModelFormatError, match=r"code.pth cannot be read as weights"):
        open_lpips([tmp_path / "code.pth"])
