"""Consistency distillation in continuous time (sCM).

Lu & Song 2025, arXiv 2410.11081, in TrigFlow: x = cos(h) x0 + sin(h) z with z ~ N(0, sd^2) and an
angle h in [0, pi / 2]. A network on the rectified flow is used there as it is, by a change of its
input and output, so that the student starts as the teacher exactly. With F = dx/dh / sd the
consistency function is f = cos(h) x - sin(h) sd F, and df/dh along the teacher's trajectory is to
be 0. It is found by one forward-mode derivative of the student.

Legend: h angle (B,), sd standard deviation of the latents, g the tangent, D entries of a sample.
"""

import torch
from torch import Tensor

from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.paths import spread
from video_models.distillation.forward_mode import along

AngleFunction = VelocityFunction
"""(x, h) -> dx/dh: samples (B, ...) and angles (B,)."""


def on_angles(network: VelocityFunction, sigma_data: float = 1.0) -> AngleFunction:
    """Return dx/dh = sd F of a network that predicts the velocity of the rectified flow.

    With n = cos + sd sin the same mixture stands on the rectified flow at t = sd sin / n as x / n,
    and dx/dh = ((sd cos - sin) x + sd v) / n. No term is divided by something that may be 0.
    """

    def derivative(x: Tensor, angle: Tensor) -> Tensor:
        cos, sin = torch.cos(angle), sigma_data * torch.sin(angle)
        n = cos + sin
        v = network(x / spread(n, x), sin / n)
        turned = sigma_data * cos - torch.sin(angle)
        return (spread(turned, x) * x + sigma_data * v) / spread(n, x)

    return derivative


def noised_on_angles(x0: Tensor, noise: Tensor, angle: Tensor, sigma_data: float = 1.0) -> Tensor:
    """Return x = cos(h) x0 + sin(h) sd e."""
    h = spread(angle, x0)
    return torch.cos(h) * x0 + sigma_data * torch.sin(h) * noise


def draw_angles(
    num: int, *, mean: float, std: float, sigma_data: float = 1.0, generator: torch.Generator
) -> Tensor:
    """Draw angles h = atan(e^tau / sd), tau ~ N(mean, std^2) the log of EDM's sigma; (num,)."""
    tau = mean + std * torch.randn(num, generator=generator)
    return torch.atan(tau.exp() / sigma_data)


def consistency_function(derivative: AngleFunction, x: Tensor, angle: Tensor) -> Tensor:
    """Return f = cos(h) x - sin(h) dx/dh, the clean sample that the student jumps to."""
    h = spread(angle, x)
    return torch.cos(h) * x - torch.sin(h) * derivative(x, angle)


@torch.no_grad()
def tangent(
    student: AngleFunction,
    teacher: AngleFunction,
    x: Tensor,
    angle: Tensor,
    *,
    warmup: float = 1.0,
    step: float | None = None,
) -> Tensor:
    """Return g = cos(h) df/dh along the teacher's trajectory, like x.

    g = -cos^2 (sd F - dx/dh) - r (cos sin x + cos sin d(sd F)/dh), equation 6 times cos with the
    rearranged derivative of section 4.1.

    Args:
        student: the network whose f it is, without gradient.
        teacher: gives dx/dh.
        x: samples at `angle`, (B, ...), in float32 or wider.
        angle: (B,).
        warmup: r in [0, 1], which lets the unstable part in slowly; 1 is the tangent itself.
        step: None takes the derivative in forward mode; a number takes it over a step of so much
            cos sin, for networks and ZeRO stages that know no forward mode.
    """
    dx = teacher(x, angle)
    cos, sin = torch.cos(angle), torch.sin(angle)
    direction = spread(cos * sin, x) * dx, cos * sin
    if step is None:
        here, change = along(student, (x, angle), direction)
    else:
        here = student(x, angle)
        ahead = student(x + step * direction[0], angle + step * direction[1])
        change = (ahead - here) / step
    return -spread(cos.square(), x) * (here - dx) - warmup * (spread(cos * sin, x) * x + change)


def normalised(g: Tensor, *, constant: float = 0.1) -> Tensor:
    """Return g / (|g| + c) with |g| the root of the mean square of each sample (section 4.2)."""
    length = g.flatten(1).square().mean(dim=1).sqrt()
    return g / spread(length + constant, g)


def scm_loss(
    student: AngleFunction,
    teacher: AngleFunction,
    x: Tensor,
    angle: Tensor,
    *,
    warmup: float = 1.0,
    constant: float | None = 0.1,
    log_variance: Tensor | None = None,
    sigma_data: float = 1.0,
    step: float | None = None,
) -> Tensor:
    """Return e^-u w / D |F - sg(F) - g|^2 + u of each sample, (B,); equation 8.

    w = 1 / (sd tan h). Its gradient is -2 w / D e^-u g dF: a descent that makes g vanish.

    Args:
        student: `on_angles(network, sigma_data)`; forward mode needs an attention that knows it.
        teacher: the same of the frozen, guided teacher.
        x: noised latents, `noised_on_angles`, (B, ...), in float32 or wider.
        angle: (B,), in (0, pi / 2).
        warmup: see `tangent`.
        constant: of `normalised`; None leaves the tangent as it is.
        log_variance: u of an adaptive weight, (B,), trained along; None for none.
        sigma_data: standard deviation of the latents.
        step: see `tangent`.
    """
    g = tangent(student, teacher, x, angle, warmup=warmup, step=step)
    if constant is not None:
        g = normalised(g, constant=constant)
    f = student(x, angle) / sigma_data
    error = (f - f.detach() - g).flatten(1).square().mean(dim=1)
    weighted = error / (sigma_data * torch.tan(angle))
    return weighted if log_variance is None else weighted * torch.exp(-log_variance) + log_variance
