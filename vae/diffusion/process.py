"""The mathematics of a diffusion model: schedule, q(x_t | x_0), the loss, the two samplers.

DDPM is Ho et al. 2020 (arXiv 2006.11239), DDIM Song et al. 2020 (arXiv 2010.02502), the cosine
schedule Nichol & Dhariwal 2021 (arXiv 2102.09672), v-prediction Salimans & Ho 2022 (arXiv
2202.00512). Times run from 0 (an image) to T (noise).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Diffusion:
    """alpha_bar[t], the share of the image's variance that is left at t = 0, ..., T (float64).

    Equation (17) of arXiv 2102.09672, s = 0.008, with no beta above 0.999. In float64, as is what
    is made of it before a method rounds its result: 1 - alpha_bar is small near 0.

    predict: what a network says of x_t. "noise" is DDPM's; near T its error is magnified without
    bound when the image is taken from it. "v" is sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0,
    which gives the image and the noise with errors no larger than its own.
    """

    def __init__(self, timesteps: int = 1000, predict: str = "v"):
        self.timesteps, self.predict = timesteps, predict
        share = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
        ideal = ((share + 0.008) / 1.008 * math.pi / 2).cos().square()
        betas = (1 - ideal[1:] / ideal[:-1]).clamp(max=0.999)
        one = torch.ones(1, dtype=torch.float64)
        self.alpha_bar = torch.cat([one, (1 - betas).cumprod(dim=0)])  # (T + 1,)

    def at(self, t: Tensor | int, x: Tensor) -> Tensor:
        """alpha_bar at times t, a number or (B,), shaped to multiply images x."""
        self.alpha_bar = self.alpha_bar.to(x.device)  # once; afterwards it is there
        # A slice for a number: nothing is copied to the device, and nothing waits for it.
        picked = self.alpha_bar[t : t + 1] if isinstance(t, int) else self.alpha_bar[t]
        return picked.view(-1, 1, 1, 1)

    def q_sample(self, x0: Tensor, t: Tensor | int, noise: Tensor) -> Tensor:
        """x_t ~ q(x_t | x_0), equation (4) of DDPM."""
        alpha_bar = self.at(t, x0)
        return (alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise).to(x0.dtype)

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What a network should say of x_t: its noise, or v (section 4 of arXiv 2202.00512)."""
        if self.predict == "noise":
            return noise
        alpha_bar = self.at(t, x0)
        return (alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * x0).to(x0.dtype)

    def predict_x0(self, x: Tensor, t: Tensor | int, predicted: Tensor) -> Tensor:
        """The image that x_t was made of, if that is its noise or v; clipped to [-1, 1]."""
        alpha_bar = self.at(t, x)
        if self.predict == "noise":
            x0 = (x - (1 - alpha_bar).sqrt() * predicted) / alpha_bar.sqrt()
        else:
            x0 = alpha_bar.sqrt() * x - (1 - alpha_bar).sqrt() * predicted
        return x0.clamp(-1, 1).to(x.dtype)

    def noise_in(self, x: Tensor, t: Tensor | int, x0: Tensor) -> Tensor:
        """The noise that turned x0 into x_t: the prediction again, after the image was clipped."""
        alpha_bar = self.at(t, x)
        return ((x - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()).to(x.dtype)

    def ddpm_step(self, x: Tensor, t: int, predicted: Tensor, noise: Tensor | float) -> Tensor:
        """x_{t-1} ~ N(mu~, beta~), equations (6) and (7) of DDPM, with x_0 as predicted."""
        x0 = self.predict_x0(x, t, predicted)
        now, before = self.at(t, x), self.at(t - 1, x)
        alpha = now / before  # 1 - beta of this step
        of_x0 = before.sqrt() * (1 - alpha) / (1 - now)
        of_x = alpha.sqrt() * (1 - before) / (1 - now)
        variance = (1 - before) / (1 - now) * (1 - alpha)  # beta~, the smaller of the two choices
        return (of_x0 * x0 + of_x * x + variance.sqrt() * noise).to(x.dtype)

    def ddim_step(
        self,
        x: Tensor,
        t: int,
        earlier: int,
        predicted: Tensor,
        eta: float = 0.0,
        noise: Tensor | float = 0.0,
    ) -> Tensor:
        """x at time `earlier`, equations (12) and (16) of DDIM; eta 0 adds no noise."""
        x0 = self.predict_x0(x, t, predicted)
        now, then = self.at(t, x), self.at(earlier, x)
        sigma = eta * ((1 - then) / (1 - now) * (1 - now / then)).sqrt()
        # Rounding may leave less than nothing at eta 1.
        direction = (1 - then - sigma.square()).clamp(min=0).sqrt() * self.noise_in(x, t, x0)
        return (then.sqrt() * x0 + direction + sigma * noise).to(x.dtype)

    def times(self, steps: int, until: int = 1) -> list[int]:
        """From T to 0 in `steps` even steps, without the times below `until` and above 0.

        The step over those is longer, and the last: it goes to the image that is predicted there.
        """
        even: list[int] = torch.linspace(self.timesteps, 0, steps + 1).round().long().tolist()
        return [t for t in even if t >= until] + [0]


def ddpm_loss(model: nn.Module, x: Tensor, diffusion: Diffusion) -> Tensor:
    """Mean squared error of the prediction at uniform times, L_simple (equation (14) of DDPM).

    x: (B, 3, 32, 32) in [-1, 1]. The mean runs over pixels and batch. With v in place of the noise
    it is the "SNR + 1" weighting of section 4 of arXiv 2202.00512.
    """
    t = torch.randint(1, diffusion.timesteps + 1, (len(x),), device=x.device)  # (B,) in 1, ..., T
    noise = torch.randn(x.shape, device=x.device)  # (B, 3, 32, 32)
    predicted = model(diffusion.q_sample(x, t, noise), t)
    return (predicted.float() - diffusion.target(x, t, noise)).square().mean()


@torch.no_grad()
def draw(
    model: nn.Module,
    diffusion: Diffusion,
    count: int,
    steps: int | None = None,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    after_step: Callable[[], None] = lambda: None,
    until: int = 1,
) -> Tensor:
    """`count` images (count, 3, 32, 32) in [-1, 1] from noise, by DDIM, or DDPM for steps None.

    `generator` is on the model's device; `after_step` may raise to stop. until: as in `times`.
    """
    device = next(model.parameters()).device

    def normal() -> Tensor:
        return torch.randn(count, 3, 32, 32, device=device, generator=generator)

    x = normal()  # x_T, (count, 3, 32, 32)
    times = diffusion.times(steps or diffusion.timesteps, until)
    for t, earlier in zip(times, times[1:], strict=False):
        predicted = model(x, torch.full((count,), t, device=device)).float()
        if earlier == 0:  # where both samplers end
            x = diffusion.predict_x0(x, t, predicted)
        elif steps is None:
            x = diffusion.ddpm_step(x, t, predicted, normal())
        else:
            # With eta 0 nothing is drawn: the images are a function of x_T.
            x = diffusion.ddim_step(x, t, earlier, predicted, eta, normal() if eta else 0.0)
        after_step()
    return x
