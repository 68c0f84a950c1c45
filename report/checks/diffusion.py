"""Task 3: the handout's DiffusionModel, by the formulas of DDPM and DDIM.

Equations are those of arXiv 2006.11239 and 2010.02502. A stub stands in for the U-Net: it answers
with the noise that an image was made with.
"""

import contextlib
import math
from typing import Any

import torch
from torch import Tensor, nn

from checks import HandIn, NotThere, Verdict, check, differs, right, wrong
from checks.gan import close, need, numbered_images, shaped

SHAPE = (3, 8, 8)


class Oracle(nn.Module):
    """A U-Net that knows the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = self.out_dim = 3
        self.self_condition = self.learned_sinusoidal_cond = False
        self.random_or_learned_sinusoidal_cond = False
        self.untold = False  # whether it was asked without a time
        self.weight = nn.Parameter(torch.zeros(()))
        self.noise: Tensor | float = 0.0
        self.times: list[int] = []

    def forward(self, x: Tensor, t: Tensor | None = None, *rest: Any, **named: Any) -> Tensor:
        """The noise, whatever x_t is and whatever the time is called."""
        t = next((v for v in named.values() if isinstance(v, Tensor)), t)
        if t is None:
            self.untold = True
        else:
            self.times.append(int(torch.as_tensor(t).flatten()[0]))
        return torch.zeros_like(x) + self.noise + self.weight


def _model(handin: HandIn, steps: int | None = None, timesteps: int = 1000) -> tuple:
    oracle = Oracle()
    make = handin.get("model", "DiffusionModel")
    options = {"timesteps": timesteps, "sampling_timesteps": steps, "ddim_sampling_eta": 0}
    with torch.no_grad():
        model = make(oracle, **options)
    for name in ("alphas_cumprod", "betas"):
        need(getattr(model, name, None), name)
    return model, oracle


def _noisy(model: Any, t: int, of: tuple | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """x_0 in [-0.9, 0.9], noise, and the x_t that they make; or that of another pair."""
    x0, noise = of or (numbered_images(2, 3, 8).clamp(-0.9, 0.9), numbered_images(4, 3, 8)[2:])
    share = model.alphas_cumprod[t]
    return x0, noise, share.sqrt() * x0 + (1 - share).sqrt() * noise


def _times(t: int) -> Tensor:
    return torch.full((2,), t, dtype=torch.long)


def _named(
    got: Any, right_: Any, otherwise: str, *cases: tuple, tolerance: float = 5e-3
) -> Verdict:
    """Right, or the slip whose image `got` is; cases: (what is seen, its image)."""
    if close(got, right_, tolerance):
        return right()
    return wrong(next((seen for seen, image in cases if close(got, image, 1e-2)), otherwise))


@check("diffusion", "3.1", "the image that x_t was made of", "samples are noise",
       "(x_t - sqrt(1 - abar) noise) / sqrt(abar), of the noise that model(x_t, t) tells"
       )  # fmt: skip
def prediction(handin: HandIn) -> Verdict:
    """the model's noise gives x_0 back."""
    model, oracle = _model(handin)
    x0, noise, x = _noisy(model, 400)
    oracle.noise = noise
    got_noise, got = need(model.model_predictions(x, _times(400)), "model_predictions")
    if oracle.untold:
        return wrong("the network is not told the time", "model(x_t, t)")
    if close(got, noise, 1e-3) and close(got_noise, x0, 1e-3):
        return differs("returned as (x_0, noise) instead of (noise, x_0)")
    if not close(got_noise, noise, 1e-3):
        return wrong("another noise")
    share, added = model.alphas_cumprod[400], "the noise is added instead of taken away: a sign"
    flipped = (x + (1 - share).sqrt() * noise) / share.sqrt()
    cases = (added, flipped), (added, flipped.clamp(-1, 1))
    return _named(got, x0, "another x_0", *cases, tolerance=2e-3)


@check("diffusion", "3.1", "[-1, 1], as the handout says",
       "early errors grow without bound: samples saturate", "x_0.clamp(-1, 1)")  # fmt: skip
def clamped(handin: HandIn) -> Verdict:
    """x_0 is clamped to [-1, 1]."""
    model, oracle = _model(handin)
    _, noise, x = _noisy(model, 600)
    oracle.noise = -3 * noise
    found = need(model.model_predictions(x, _times(600)), "model_predictions")
    _, x0 = need(model.predict_denoised_at_prev_timestep(x, _times(600)), "the step")
    if min(image.abs().max() for image in (found[1], x0)) <= 1.0001:
        return right()
    return wrong(f"pixels of {found[1].abs().max():.3g}")


def _posterior(model: Any, t: int) -> tuple[float, float, float]:
    now = model.alphas_cumprod[t].double().item()
    before = model.alphas_cumprod[t - 1].double().item() if t else 1.0
    beta = 1 - now / before
    of_x0 = math.sqrt(before) * beta / (1 - now)
    of_x = math.sqrt(1 - beta) * (1 - before) / (1 - now)
    return of_x0, of_x, (1 - before) / (1 - now) * beta


@check("diffusion", "3.1", cost="steps towards another image", mend="equation (7) of DDPM")
def posterior(handin: HandIn) -> Verdict:
    """mean and variance of q(x_{t-1} | x_t, x_0)."""
    model, _ = _model(handin)
    one, none = torch.ones(2, *SHAPE), torch.zeros(2, *SHAPE)
    for t in (500, 3):
        expected = _posterior(model, t)
        of_x0 = need(model.get_posterior_parameters(one, none, _times(t)), "the posterior")
        of_x = model.get_posterior_parameters(none, one, _times(t))
        got = [float(part.flatten()[0]) for part in (of_x0[0], of_x[0], of_x0[1])]
        means = close(got[:2], expected[:2], 2e-3)
        if means and abs(got[2] / expected[2] - 1) < 2e-3:  # itself it is smaller than that
            continue
        if means and abs(got[2] ** 2 / expected[2] - 1) < 4e-3:
            return differs("the deviation is returned where the handout has the variance")
        shown, wanted = (", ".join(f"{value:.4g}" for value in v) for v in (got, expected))
        swapped = ": those of x_0 and x_t are exchanged" * close(got[:2], expected[1::-1], 2e-3)
        return wrong(f"coefficients {shown} at t = {t}{swapped}", wanted)
    return right()


@check("diffusion", "3.1", cost="another process", mend="coef1 x_0 + coef2 x_t + (0.5 * "
       "log_variance).exp() * z, and no noise for t = 0")  # fmt: skip
def ddpm_step(handin: HandIn) -> Verdict:
    """a DDPM step adds the posterior's noise, and none at the end."""
    model, oracle = _model(handin)
    step = model.predict_denoised_at_prev_timestep
    x0, oracle.noise, x = _noisy(model, 500)
    draws = torch.stack([need(step(x, _times(500)), "the step")[0] for _ in range(60)]).double()
    of_x0, of_x, variance = _posterior(model, 500)
    if not close(draws.mean(0), of_x0 * x0.double() + of_x * x.double(), 0.1):
        return wrong("another mean", "that of equation (7) of DDPM")
    std, expected = draws.std(0).mean().item(), math.sqrt(variance)
    if abs(std / expected - 1) > 0.1:
        return wrong(f"noise of deviation {std:.4f} at t = 500", f"{expected:.4f}")
    _, oracle.noise, x = _noisy(model, 0)
    try:
        same = close(step(x, _times(0))[0], step(x, _times(0))[0], 1e-4)
    except Exception as error:
        return differs(f"fails at t = 0 ({error}), which the handout's loop never reaches")
    if same:
        return right()
    short, asked = _model(handin, timesteps=20)
    with contextlib.suppress(Exception):
        short.sample((1, 3, 8, 8))
    if asked.times and asked.times[-1] > 0:
        return differs("noise at t = 0, which its loop never reaches")
    return wrong("noise at t = 0", "none")


@check("diffusion", "3.2", "19, ..., 0", "images with noise left", "range(T - 1, -1, -1)")
def ddpm_times(handin: HandIn) -> Verdict:
    """DDPM sampling visits every time down to 0."""
    model, oracle = _model(handin, timesteps=20)
    need(model.sample((1, 3, 8, 8)), "sample")
    if oracle.times[-1:] == [0] and len(oracle.times) == 20:
        return right()
    if oracle.untold:
        return differs("the network is not told the time, which has a row: not looked into")
    end = "the handout's loop ends at t = 1: the last step, without noise, is left out"
    return differs(end) if oracle.times[-1:] == [1] else wrong(f"times {oracle.times}")


def _ddim(model: Any, x: Tensor, tau: int, earlier: int, predictions: Any = None) -> Tensor:
    """A step, with times as its own loop may make them: numbers, tensors (), tensors (B,)."""
    first = None
    for times in (tau, earlier), torch.tensor((tau, earlier)), torch.tensor([[tau], [earlier]]):
        if isinstance(times, Tensor) and times.ndim == 2:
            times = times.expand(2, len(x))
        try:
            told = predictions or model.model_predictions
            found = model.ddim_step(len(x), x.device, *times, x, told, model.alphas_cumprod, 0.0)
            return need(found, "ddim_step")[0]
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            first = first or error
    raise first or NotThere("ddim_step")


def _exact(model: Any, x: Tensor, t: int, noise: Tensor, x0: Tensor) -> Any:
    """Right predictions, in the order in which the hand-in returns its own: those have a row."""
    pair = noise, x0
    with contextlib.suppress(Exception):
        if close(model.model_predictions(x, _times(t))[1], noise, 1e-3):
            pair = x0, noise
    return lambda *args, **named: pair


@check("diffusion", "3.2", "one", "eta 0 is what the question asks for",
       "sigma = eta * sqrt(...), and sigma * noise")  # fmt: skip
def ddim_deterministic(handin: HandIn) -> Verdict:
    """DDIM with eta 0 is deterministic."""
    model, oracle = _model(handin, steps=10)
    _, oracle.noise, x = _noisy(model, 600)
    same = close(_ddim(model, x, 600, 500), _ddim(model, x, 600, 500), 1e-5)
    return right() if same else wrong("two results")


@check("diffusion", "3.2", "x_0 and noise in the shares of the earlier time", "blurred samples",
       "sqrt(abar') x_0 + sqrt(1 - abar' - sigma^2) noise")  # fmt: skip
def ddim_step(handin: HandIn) -> Verdict:
    """a DDIM step with eta 0."""
    model, oracle = _model(handin, steps=10)
    x0, noise, x = _noisy(model, 600)
    oracle.noise = noise
    got = _ddim(model, x, 600, 500, _exact(model, x, 600, noise, x0))
    cases = [("x_0 and noise are exchanged", _noisy(model, 500, (noise, x0))[-1])]
    cases += [("the step returns its input", x), ("x_0 is returned at every step", x0)]
    return _named(got, _noisy(model, 500, (x0, noise))[-1], "another image", *cases)


def _with_10_or_100(judge: Any, handin: HandIn) -> Verdict:
    """Some have written the handout's 100 steps into a step."""
    verdict = judge(handin, 10)
    if verdict.word == "wrong" and judge(handin, 100).word == "right":
        return differs("right with 100 steps alone: a number of them is written into it")
    return verdict


@check("diffusion", "3.2", "the predicted image", "grainy or ruined samples",
       "abar = 1 where the earlier time is -1")  # fmt: skip
def ddim_last(handin: HandIn) -> Verdict:
    """DDIM's last step returns x_0."""
    return _with_10_or_100(_last_step, handin)


def _last_step(handin: HandIn, steps: int) -> Verdict:
    model, oracle = _model(handin, steps=steps)
    asked, step = [], model.ddim_step

    def spy(*args: Any, **named: Any) -> Any:
        values = [*args, *named.values()]
        asked.append(int(torch.as_tensor(values[3]).flatten()[0]))
        return step(*args, **named)

    model.ddim_step = spy
    try:
        model.sample((1, 3, 8, 8))
    except Exception:  # a row of its own
        asked.clear()
    model.ddim_step = step
    if asked and asked[-1] >= 0:
        return differs(f"it ends at time {asked[-1]}, not before 0: a little noise stays")
    x0, noise, x = _noisy(model, 100)
    oracle.noise = noise
    got = _ddim(model, x, 100, -1, _exact(model, x, 100, noise, x0))
    if close(got, x0, 3e-3):
        return right()
    if close(got, _noisy(model, 0, (x0, noise))[-1], 5e-3):
        return differs("it ends at time 0 instead of before it: a hundredth of the noise stays")
    if not torch.isfinite(got).all() or (got - noise).abs().mean() < (got - x0).abs().mean():
        return wrong("noise or NaN is returned: index -1 is the last time, not the image")
    same = "the last step returns its input, with the noise that is left in it"
    return wrong(same if close(got, x, 1e-3) else "noise is left")


@check("diffusion", "3.2", "0.25", "washed-out or black pictures and scores", "(x + 1) / 2, once")
def sample_range(handin: HandIn) -> Verdict:
    """samples are in [0, 1]."""
    return _with_10_or_100(_range_of_samples, handin)


def _range_of_samples(handin: HandIn, steps: int) -> Verdict:
    model, oracle = _model(handin, steps=steps)

    def forward(x: Tensor, *rest: Any, **named: Any) -> Tensor:
        t = next(v for v in (*named.values(), *rest) if v is not None)
        share = model.alphas_cumprod[int(torch.as_tensor(t).flatten()[0])]
        return (x + 0.5 * share.sqrt()) / (1 - share).sqrt()

    oracle.forward = forward
    exact = torch.full((2, 3, 8, 8), -0.5)
    swapped = False
    with contextlib.suppress(Exception):
        found = model.model_predictions(torch.full((2, 3, 8, 8), 0.1), _times(300))
        swapped = close(found[0], exact, 1e-2)

    def predictions(x: Tensor, *rest: Any, **named: Any) -> Any:
        noise = forward(x, *rest, **named).reshape(x.shape)
        return (exact, noise) if swapped else (noise, exact)

    model.model_predictions = predictions  # the hand-in's own have a row
    got = need(model.sample((2, 3, 8, 8)), "sample").mean().item()
    return right() if abs(got - 0.25) < 0.03 else wrong(f"images of -0.5 come out as {got:.2f}")


@check("diffusion", "3.3", "63.75", "a score of other pictures, or none",
       "lambda z: sample_given_z(z, shape) * 255")  # fmt: skip
def fid_images(handin: HandIn) -> Verdict:
    """what reaches FID: images in [0, 255]."""
    get_fid = handin.get("inference", "get_fid")

    class Sampler(nn.Module):
        channels, device = 3, torch.device("cpu")
        is_ddim_sampling, num_timesteps, sampling_timesteps = False, 1000, 1000

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, z: Tensor) -> Tensor:
            """The same as sample_given_z."""
            return self.sample_given_z(z, (len(z), 3, 32, 32))

        def sample(self, shape: Any) -> Tensor:
            """The same."""
            return self.sample_given_z(torch.zeros(tuple(shape)), shape)

        def sample_given_z(self, z: Tensor, shape: Any) -> Tensor:
            """Images in [0, 1], half 0.25 and half 0.5."""
            z.reshape(shape)
            images = torch.full((len(z), 3, 32, 32), 0.25)
            images[..., 16:] = 0.5
            return images

        def sample_ddpm(self, shape: Any, z: Tensor) -> Tensor:
            """The same."""
            return self.sample_given_z(z, shape)

        sample_ddim = sample_ddpm

    module: Any = handin.module("inference")
    for name in ("diffusion", "model", "args"):  # a script's own variables
        if not hasattr(module, name):
            setattr(module, name, Sampler())
    get_fid(Sampler(), "cifar10", 32, 32 * 32 * 3, 4, 8)
    if not handin.notes.fid:
        raise NotThere("get_fid does not call clean-fid's compute_fid")
    call = handin.notes.fid[-1]
    function: Any = call.get("gen")
    if function is None:
        raise NotThere("get_fid gives clean-fid no function: gen is None")
    if isinstance(function, nn.Module) or not callable(function):
        return wrong(f"a {type(function).__name__} is given to clean-fid", "a function of z")
    made = shaped(function(torch.randn(4, 3 * 32 * 32)), 4, 3, 32, 32).float()
    got = made[..., :16].mean().item()
    if abs(got - 63.75) < 0.3:
        return right()
    if abs(got - 63) < 0.3:
        return differs("rounded down: half a grey level darker on average")
    seen = f"a pixel of 0.25 reaches it as {got:.4g}"
    if got < 1 and made.max() > 250:
        seen += ": stretched to the batch's own range"
    if abs(got - (0.25 + 1) / 2 * 255) < 1:
        seen += ": rescaled a second time"
    return wrong(seen)
