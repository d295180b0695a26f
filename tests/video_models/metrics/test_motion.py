"""Motion and flicker of clips whose motion is known."""

import numpy as np
import pytest
import torch

from video_models.metrics.motion import flicker, frame_change, motion_magnitude, optical_flow


def texture(step, frames=4, size=48, seed=0):
    """A smooth random pattern that moves by `step` = (columns, rows) a frame; (1, 3, T, H, W)."""
    rng = np.random.default_rng(seed)
    waves = [(rng.uniform(-0.5, 0.5, 2), rng.uniform(0, 6)) for _ in range(8)]
    y, x = np.mgrid[0:size, 0:size].astype(float)
    clip = []
    for t in range(frames):
        picture = sum(
            np.cos(k[0] * (x - step[0] * t) + k[1] * (y - step[1] * t) + phase)
            for k, phase in waves
        )
        clip.append(picture / 8)
    return torch.from_numpy(np.stack(clip)).expand(3, -1, -1, -1)[None]


@pytest.mark.parametrize("step", [(0.0, 0.0), (0.5, 0.0), (1.0, -0.7), (3.0, 2.0)])
def test_a_moving_pattern_has_its_speed(step):
    found = motion_magnitude(texture(step)).item()
    assert found == pytest.approx(np.hypot(*step), rel=0.1, abs=0.02)


def test_the_flow_points_where_the_pattern_goes():
    u, v, strength = optical_flow(texture((1.5, -1.0)))
    seen = strength > strength.median()
    assert u[seen].median().item() == pytest.approx(1.5, abs=0.1)
    assert v[seen].median().item() == pytest.approx(-1.0, abs=0.1)


def test_the_flow_is_that_of_opencv():
    cv2 = pytest.importorskip("cv2")
    clip = texture((1.2, 0.8), frames=2)
    u, v, strength = optical_flow(clip)
    one, other = (((f + 1) * 127.5).round().byte().numpy() for f in clip[0, 0])
    points = np.array([[[x, y]] for x in range(12, 36, 4) for y in range(12, 36, 4)], np.float32)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(one, other, points, None, winSize=(7, 7), maxLevel=2)
    differences = [
        np.hypot(u[0, 0, int(y), int(x)].item() - (p - x), v[0, 0, int(y), int(x)].item() - (q - y))
        for (x, y), (p, q), good in zip(points[:, 0], moved[:, 0], found[:, 0], strict=True)
        if good and strength[0, 0, int(y), int(x)] > strength.median()
    ]
    assert len(differences) > 10
    assert np.median(differences) < 0.1


def test_a_flat_background_counts_nothing():
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    frames = [torch.exp(-((x - 40 - t) ** 2 + (y - 48) ** 2) / 72) for t in range(4)]
    blob = (2 * torch.stack(frames) - 1).expand(1, 3, 4, 96, 96)
    assert motion_magnitude(blob).item() == pytest.approx(1.0, rel=0.1)
    assert motion_magnitude(torch.zeros(2, 3, 3, 16, 16)).tolist() == [0.0, 0.0]


def test_clips_are_measured_apart():
    still, moving = texture((0, 0)), texture((1.0, 0))
    both = torch.cat((still, moving))
    for measure in (motion_magnitude, flicker, frame_change):
        alone = torch.cat((measure(still), measure(moving)))
        torch.testing.assert_close(measure(both), alone)


def test_steady_change_is_no_flicker_and_alternation_is():
    t = torch.arange(6.0).view(1, 1, 6, 1, 1)
    ramp = (0.1 * t).expand(1, 3, 6, 4, 4)
    blink = (0.4 * (t % 2)).expand(1, 3, 6, 4, 4)
    torch.testing.assert_close(flicker(ramp), torch.tensor([0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(flicker(blink), torch.tensor([0.4]))
    torch.testing.assert_close(frame_change(ramp), torch.tensor([0.05]))
    torch.testing.assert_close(frame_change(blink), torch.tensor([0.2]))


@pytest.mark.parametrize("measure", [flicker, frame_change, motion_magnitude])
def test_a_single_frame_is_an_error(measure):
    with pytest.raises(ValueError, match="T of at least"):
        measure(torch.zeros(1, 3, 1, 16, 16))
