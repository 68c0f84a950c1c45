"""Questions 2.1 to 2.3.2 (2.1 to 2.8 in editions since 2023): what can be seen of vae/."""

import contextlib
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from checks import HandIn, NotThere, Slip, Verdict, check, differs, remarked, right, wrong
from checks.gan import call, close, nearest, need, numbered_images, parts_of, shaped, used

SHAPE = (3, 32, 32)
ENCODER = [("Conv2d", 3, 32, 3, 1), ("Conv2d", 32, 64, 3, 2), ("Conv2d", 64, 128, 3, 2)]
ENCODER += [("Conv2d", 128, 256, 3, 2)]


def _decoder(base: int) -> list[tuple]:
    up = [("ConvTranspose2d", base, 128, 4, 2), ("ConvTranspose2d", 128, 64, 4, 2)]
    return [*up, ("ConvTranspose2d", 64, 32, 4, 2), ("Conv2d", 32, 3, 3, 1)]


KINDS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
Layers = list[tuple[Any, Tensor]]  # convolutions and linear layers, and what each is given


def _layers(module: nn.Module, given: Tensor) -> tuple[Layers, list[tuple]]:
    """Those that a module uses, in their order; of the convolutions what they are."""
    found = [(part, x) for part, x, _ in used(module, given) if isinstance(part, KINDS)]
    convs = [part for part, _ in found if isinstance(part, KINDS[:2])]
    return found, [
        (type(p).__name__, p.in_channels, p.out_channels, p.kernel_size[0], p.stride[0])
        for p in convs
    ]


def _others(module: nn.Module, layers: Layers) -> tuple:
    """What it has that the handout's does not, and what is expected: empty for nothing."""
    for part in [part for part in module.modules() if part is not module]:
        own, name = [*part.parameters(recurse=False)], type(part).__name__
        if (own and not isinstance(part, KINDS)) or "Dropout" in name or "Norm" in name:
            return f"a {name} among the layers", "none"
    for number, conv in enumerate(part for part, _ in layers if isinstance(part, KINDS[:2])):
        if conv.padding not in ("same", (1, 1)):
            return f"convolution {number} has padding {conv.padding}", "1"
    return ()


def _difference(got: list[tuple], expected: list[tuple]) -> str:
    for number, (one, other) in enumerate(zip(got, expected, strict=False)):
        if one != other:
            kind, *sizes, stride = one
            return f"convolution {number} is {kind}({', '.join(map(str, sizes))}, stride {stride})"
    return f"{len(got) or 'no'} convolutions are used instead of {len(expected)}"


OTHER_NETWORK = "it is another network than the reference numbers'"
PRINTED = "the layers that the handout prints"


# ------------------------------------------------------------------------------------------------
# The networks


def _encoder_layers(handin: HandIn, network: str, width: int) -> Verdict:
    encoder = handin.get("model", network)(SHAPE, 16)
    need(getattr(encoder, "convs", 0), f"{network}.convs")
    layers, got = _layers(encoder, numbered_images(3, 3, 32))
    if got != ENCODER:
        return wrong(_difference(got, ENCODER), "3-32-64-128-256, 3x3")
    if other := _others(encoder, layers):
        return wrong(*other)
    shapes = [(p.in_features, p.out_features) for p, _ in layers if isinstance(p, nn.Linear)]
    if shapes == [(4096, width // 2)] * 2:
        return differs("a linear layer each for mu and log_std: the same model, other weights")
    if shapes != [(4096, width)]:
        return wrong(f"linear layers {shapes}", f"one Linear(4096, {width})")
    # Whatever the ReLU is: a module or a function.
    bare = [number for number, (_, x) in enumerate(layers) if x.min() < 0]
    if between := [number for number in bare if 0 < number < 4]:
        seen = f"negative numbers between convolutions {between[0] - 1} and {between[0]}: no ReLU"
        return wrong(seen, "one")
    seen, cost = "a ReLU after the last convolution", "half of each feature is lost"
    return right() if 4 in bare else wrong(seen, "none before the linear layer", cost)


for _network, _question, _name, _width in (
    ("Encoder", "2.1", "encoder", 16),
    ("VAEEncoder", "2.2", "vae_encoder", 32),
):
    _what = f"the {'VAE ' * (_width == 32)}encoder's layers"
    check("vae", _question, "", OTHER_NETWORK, PRINTED, name=f"{_name}_layers", what=_what)(
        functools.partial(_encoder_layers, network=_network, width=_width)
    )


@check("vae", "2.1", "(3, 16)")
def encoder_output(handin: HandIn) -> Verdict:
    """the encoder returns (B, latent), through its convolutions."""
    encoder = handin.get("model", "Encoder")(SHAPE, 16)
    return _through_convolutions(encoder, encoder, 16)


def _through_convolutions(
    encoder: nn.Module, output: Callable[[Tensor], Tensor], width: int
) -> Verdict:
    x = numbered_images(3, 3, 32)
    with torch.no_grad():
        before = shaped(output(x), 3, width).clone()
        for part in parts_of(encoder, nn.Conv2d):
            part.weight.mul_(1.5)  # what they feed must change
        if close(before, output(x)):
            cost = "a linear encoder of pixels: reconstructions stay blurred"
            mend = "self.fc(self.convs(x).flatten(1))"
            return wrong("the convolutions are not used", "fc(convs(x))", cost, mend)
    return right()


@check("vae", "2.2", cost="a part of its outputs is lost", mend="fc(x).chunk(2, dim=1)")
def vae_encoder_output(handin: HandIn) -> Verdict:
    """the VAE encoder returns mu and log_std, (B, latent) each."""
    encoder = handin.get("model", "VAEEncoder")(SHAPE, 16)
    found = need(encoder(numbered_images(3, 3, 32)), "VAEEncoder's output")
    if isinstance(found, Tensor):
        verdict = _through_convolutions(encoder, encoder, 32)
        both = "one tensor (B, 2 latent), which others take apart, instead of (mu, log_std)"
        return verdict if verdict.word != "right" else differs(both)
    if not isinstance(found, tuple | list) or len(found) != 2:
        kind = type(found).__name__
        return wrong(f"a {kind}", "(mu, log_std)", "vae_loss takes two", "return mu, log_std")
    verdict = _through_convolutions(encoder, lambda x: encoder(x)[0], 16)
    last = getattr(encoder, "fc", None)
    if verdict.word == "right" and tuple(found[1].shape) != (3, 16):
        return differs(f"log_std: {tuple(found[1].shape)}")
    if verdict.word != "right" or not isinstance(last, nn.Linear) or last.out_features != 32:
        return verdict
    with torch.no_grad():  # their order is read off the bias of the last layer
        last.weight.zero_()  # the bias alone comes out
        # Of both signs in either half, and so small that no clamp changes them.
        marks = torch.linspace(-1, 1.5, 32).view(16, 2).T.flatten()
        last.bias.copy_(marks)
        mu, log_std = encoder(numbered_images(1, 3, 32))
    first, second = marks.chunk(2)
    if close(mu[0], first) and close(log_std[0], second):
        return right()
    if close(mu, log_std):
        cost = "a mean and its deviation cannot differ"
        return wrong("mu and log_std are the same outputs", "two halves", cost)
    order = "the second half is mu" if close(mu[0], second) else "mu and log_std alternate"
    if close(torch.cat([mu[0], log_std[0]]).sort()[0], marks.sort()[0]):
        return differs(f"{order}: trains the same, and weights cannot be exchanged")
    if len(parts_of(encoder, nn.Linear)) > 1:
        return differs("further layers behind fc: see the row of its layers")
    return wrong("mu and log_std are not the last layer's halves", "its two halves")


@check("vae", "2.1", "one", OTHER_NETWORK, PRINTED)
def decoder_layers(handin: HandIn) -> Verdict:
    """the decoder's layers."""
    decoder = handin.get("model", "Decoder")(16, SHAPE)
    need(getattr(decoder, "deconvs", 0), "Decoder.deconvs")
    layers, got = _layers(decoder, torch.randn(3, 16))
    # Both editions of the handout; each begins with a ReLU.
    edition = min((128, 256), key=lambda base: _mismatches(got, _decoder(base)))
    if got[:-1] != _decoder(edition)[:-1] or got[-1][1:] != (32, 3, 3, 1):
        expected = f"{edition}-128-64-32-3, the edition that is nearest"
        return wrong(_difference(got, _decoder(edition)), expected)
    if other := _others(decoder, layers):
        return wrong(*other)
    bare = [number for number, (_, x) in enumerate(layers) if number and x.min() < 0]
    if bare and bare[0] == 1:
        cost = "numbers that do not compare: without it two public answers have 15 and 17 instead "
        cost += "of 25 to 31 with 1,024 latents"
        return wrong("no ReLU before the first transposed convolution", cost=cost)
    if bare:
        return wrong(f"negative numbers reach convolution {bare[0] - 1}: no ReLU before it")
    last = parts_of(decoder, nn.Conv2d)[-1:]
    with torch.no_grad():
        for part in last:
            part.weight.mul_(1e4)  # so large that a bounded end shows
        if last and decoder(torch.randn(3, 16)).abs().max() <= 1.0001:
            cost = "outputs are bounded, which the reference's are not"
            return wrong("a Tanh or sigmoid at the end", "a linear end", cost)
    remarks = ["256 channels at its start, the handout's edition since 2023"] * (edition == 256)
    remarks += ["a transposed convolution at the end: the same family"] * (not last)
    return remarked(remarks)


def _mismatches(got: list[tuple], expected: list[tuple]) -> int:
    return sum(a != b for a, b in zip(got, expected, strict=False)) + abs(len(got) - len(expected))


@check("vae", "2.1")
def decoder_output(handin: HandIn) -> Verdict:
    """the decoder returns (B, 3, 32, 32)."""
    shaped(handin.get("model", "Decoder")(16, SHAPE)(torch.randn(3, 16)), 3, *SHAPE)
    return right()


# ------------------------------------------------------------------------------------------------
# The losses


class Fixed(nn.Module):
    """An autoencoder that answers what it is told, and keeps what it is given."""

    def __init__(self, code: Any, image: float = 0.0, kind: Any = None):
        """kind: the hand-in's own class, whose other methods it has."""
        super().__init__()
        self.code, self.image, self.kind, self.joined = code, image, kind, False
        self.latent_size = code[0].shape[1]
        if len(code) == 2 and kind is not None:  # (mu, log_std), or one tensor of both
            with contextlib.suppress(Exception):
                own = kind(True, self.latent_size, SHAPE).encoder
                self.joined = isinstance(own(numbered_images(1, 3, 32)), Tensor)
        self.encoder: Any = nn.Module()  # some call it, some call its forward
        self.decoder: Any = nn.Module()
        self.encoder.forward, self.decoder.forward = self._encode, self._decode
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[Tensor] = []
        self.latents: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        if name not in ("kind", *vars(nn.Module)) and callable(getattr(self.kind, name, None)):
            return inspect.getattr_static(self.kind, name).__get__(self, self.kind)
        return super().__getattr__(name)

    def forward(self, *args: Any) -> Any:
        """The hand-in's own."""
        return self.kind.forward(self, *args)

    def _encode(self, x: Tensor) -> Any:
        """`code`, whatever the image."""
        self.seen.append(x.detach().clone())
        # With a gradient to the weight, as a network's would have.
        parts = tuple(part[: len(x)] + 0 * self.weight for part in self.code)
        return torch.cat(parts, 1) if self.joined or len(parts) == 1 else parts

    def _decode(self, z: Tensor) -> Tensor:
        """Images of one value."""
        if not isinstance(z, Tensor):
            raise TypeError(f"the decoder's Linear is given a {type(z).__name__}, not a tensor")
        self.latents.append(z)
        return self.image + self.weight + torch.zeros(len(z), *SHAPE)


IMAGE = 0.5  # what Fixed decodes to in the tests of the losses


def _recon_verdict(got: float, x: Tensor, what: str) -> Verdict:
    total = (x - IMAGE).square().sum().item()
    small = "numbers 3,072 times smaller, and gradients that grad_clip never touches: sharper "
    small += "results than the reference setting gives, which do not compare"
    if what.startswith("recon_loss"):
        small = "beside it the KL term, a sum, weighs 3,072 times as much; nothing compares"
    grows = "a loss that grows with the batch, and the last batch weighs less"
    tanh = (x - math.tanh(IMAGE)).square().sum().item() / len(x)
    slips = [
        (total / x.numel(), ": a mean over pixels", small),
        (total, ": a sum over the batch", grows),
        (tanh, ": tanh is applied in the loss, and nowhere else", "pictures show another image"),
    ]
    legit = [(total / len(x) / 2, "half the squared error: divide reference numbers by two")]
    return nearest(got, total / len(x), legit, slips, what, "the sum over pixels, ")


RECON = ("", "another loss", "((recon - x) ** 2).flatten(1).sum(1).mean()")


def _terms(found: Any, what: str) -> tuple[Any, dict]:
    loss, terms = need(found, what)
    return need(loss, f"{what}'s value"), terms


@check("vae", "2.1", *RECON)
def ae_loss(handin: HandIn) -> Verdict:
    """ae_loss: squared error, summed over pixels, a mean over the batch."""
    x, model = numbered_images(4, 3, 32), _fixed(handin, (torch.zeros(4, 8),), IMAGE)
    loss, terms = _terms(handin.get("train", "ae_loss")(model, x), "ae_loss")
    verdict, shown = _recon_verdict(float(loss), x, "a loss of "), float(terms["recon_loss"])
    if verdict.word == "right" and not close(shown, float(loss)):
        return wrong(
            f"recon_loss is {shown:.5g}", f"{float(loss):.5g}", "a wrong curve", "return it"
        )
    return verdict


def _fixed(handin: HandIn, code: tuple, image: float) -> Fixed:
    kind = None
    with contextlib.suppress(Exception):
        kind = handin.get("model", "AEModel")
    return Fixed(code, image, kind)


def _vae_terms(handin: HandIn, code: tuple, x: Tensor, **options: Any) -> tuple[Fixed, Any, dict]:
    model = _fixed(handin, code, IMAGE)
    loss, terms = _terms(handin.get("train", "vae_loss")(model, x, **options), "vae_loss")
    return model, loss, terms


def _code(batch: int = 4, latent: int = 8) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    shape = (batch, latent)
    return torch.randn(shape, generator=rng), 0.4 * torch.randn(shape, generator=rng)


def _drawn_std(handin: HandIn, value: float) -> float:
    """Standard deviation of the latents that vae_loss draws where the second output is `value`."""
    code = torch.zeros(256, 64), torch.full((256, 64), value)
    model, _, _ = _vae_terms(handin, code, torch.zeros(256, *SHAPE))
    if not model.latents:
        raise NotThere("vae_loss does not call model.decoder")
    return model.latents[0].detach().double().std().item()


def _meaning(handin: HandIn) -> float:
    """The second output times this is log sigma: 1 for log_std, 1/2 for log variance."""
    std = _drawn_std(handin, math.log(4))  # 4 for log_std, 2 for a log variance
    return math.log(std, 4) if std > 0 else math.nan


def _is_sigma(handin: HandIn) -> bool:
    """Whether the second output is the deviation itself, not its logarithm."""
    wide = abs(_drawn_std(handin, 2.0) - 2) < 0.1
    return wide and abs(_drawn_std(handin, 0.0)) < 0.01


@check("vae", "2.2", *RECON)
def vae_recon(handin: HandIn) -> Verdict:
    """vae_loss: reconstruction as in ae_loss, plus beta times KL."""
    x, code = numbered_images(4, 3, 32), _code()
    _, loss, terms = _vae_terms(handin, code, x, beta=1)
    recon, kl = (float(need(terms.get(name), name)) for name in ("recon_loss", "kl_loss"))
    _, heavier, again = _vae_terms(handin, code, x, beta=3)  # beta 1 hides a slip of its place
    got, asked = (float(loss), float(heavier)), (recon + kl, recon + 3 * kl)
    verdicts = [_recon_verdict(recon, x, "recon_loss is ")]
    if not close(got, asked, 1e-3):
        seen = f"losses of {got[0]:.5g} and {got[1]:.5g} for beta 1 and 3"
        expected = f"recon + beta kl = {asked[0]:.5g} and {asked[1]:.5g}"
        cost, mend = "beta does not weigh the KL term", "recon_loss + beta * kl_loss"
        verdicts.append(wrong(seen, expected, cost, mend))
    if close(float(again["kl_loss"]), 3 * kl, 1e-3):
        seen = f"kl_loss is {kl:.5g} for beta 1 and {3 * kl:.5g} for beta 3"
        cost = "the KL curves of runs with another beta do not compare"
        mend = "kl_loss=kl_loss in the terms"
        verdicts.append(wrong(seen, "the KL term without beta", cost, mend))
    found = [one for one in verdicts if one.word == "wrong"] or verdicts[:1]
    return Verdict(found[0].word, " Besides, ".join(one.sentence for one in found))


@check("vae", "2.2", cost="it is not the divergence from N(0, I)",
       mend="(0.5 * (mu ** 2 + (2 * log_std).exp() - 2 * log_std - 1)).sum(1).mean()")  # fmt: skip
def kl_value(handin: HandIn) -> Verdict:
    """the KL term is that of torch.distributions."""
    mu, second = _code()
    _, _, terms = _vae_terms(handin, (mu, second), numbered_images(4, 3, 32))
    got, meaning = float(need(terms.get("kl_loss"), "kl_loss")), _meaning(handin)

    def kl(sigma: Tensor) -> float:
        normal = torch.distributions.Normal
        posterior = normal(mu.double(), sigma.double())
        return torch.distributions.kl_divergence(posterior, normal(0.0, 1.0)).sum(1).mean().item()

    of_std, of_var = kl(second.exp()), kl((0.5 * second).exp())
    as_var = abs(meaning - 0.5) < 0.05
    if _is_sigma(handin) and close(got, kl(second.abs() + 1e-12), 1e-2):
        return differs("of the Gaussian whose sigma is the encoder's second output itself")
    if as_var and close(got, of_var, 1e-3):
        return differs("the encoder's second output is used as log variance throughout: same model")
    if not as_var and close(got, of_std, 1e-3):
        own = "its formula; which noise latents are drawn with is a row of its own"
        return right("" if abs(meaning - 1) < 0.05 else own)
    if close(got, of_std, 1e-3) or close(got, of_var, 1e-3):
        seen = f"a KL of {got:.5g}, that of another Gaussian than the latents'"
        seen += f" (sigma is exp({meaning:.2f} s))"
        return wrong(seen, f"{of_std:.5g}", "the bound is not the model's")
    beta = "beta no longer means what the question says"
    factors = [
        (4, ": a sum over the batch: with 256 images 256 times too large"),
        (1 / 8, ": a mean over latents instead of their sum"),
        (1 / 32, ": a mean over latents and images"),
        (2, ": without the factor 1/2"),
    ]
    slips = [(n * value, why, beta) for n, why in factors for value in (of_std, of_var)]
    return nearest(got, of_std, [], slips, "a KL of ")


@check("vae", "2.2", "noise from N(0, 1) in each", mend="mu + log_std.exp() * torch.randn_like(mu)")
def vae_noise(handin: HandIn) -> Verdict:
    """latents are mu + sigma * noise, other noise for each latent and image."""
    zeros = torch.zeros(64, 32)
    mu = (zeros + 3).requires_grad_()
    model, _, _ = _vae_terms(handin, (mu, zeros), torch.zeros(64, *SHAPE))
    if not model.latents:
        raise NotThere("vae_loss does not call model.decoder")
    z = model.latents[0].detach().double().reshape(-1, 32) - 3
    if z.abs().max() < 1e-6 and _is_sigma(handin):
        return differs(
            "sigma is the encoder's second output itself, which may be 0 or negative; the "
            "handout's is log_std, so weights and curves of log_std cannot be exchanged"
        )
    if z.abs().max() < 1e-6:
        return wrong("no noise", cost="an autoencoder: samples from N(0, I) are noise")
    if z.std(1).max() < 1e-6:
        cost = "the posterior is not the Gaussian that the KL term assumes"
        return wrong("one number for all latents of an image", cost=cost)
    if z.std(0).max() < 1e-6:
        return wrong("the same noise for every image", cost="correlated gradients")
    if abs(z.mean().item()) > 0.1 or abs(z.std().item() - 1) > 0.1:
        seen = f"noise of mean {z.mean():.2f}, standard deviation {z.std():.2f}"
        return wrong(seen, cost="the latents are not those of mu and sigma")
    slope = None
    if model.latents[0].requires_grad:
        (slope,) = torch.autograd.grad(model.latents[0].sum(), mu, allow_unused=True)
    if slope is None or not slope.any():  # of torch.normal it is 0
        seen = "no gradient from the latents to the encoder"
        return wrong(seen, "one", "the encoder learns from the KL term only")
    meaning = _meaning(handin)
    if abs(meaning - 1) < 0.05:
        return right()
    if abs(meaning - 0.5) < 0.05:
        return differs("sigma = exp(s / 2): the encoder's second output is used as log variance")
    std = _drawn_std(handin, math.log(4))
    return wrong(f"log_std of log 4 gives a deviation of {std:.2f}", "4", "another posterior")


@check("vae", "2.2")
def kl_extremes(handin: HandIn) -> Verdict:
    """the KL term is finite for extreme log_std."""
    bad = []
    for value in (-60.0, 10.0):  # exp(-60)^2 is 0 in float32
        second = torch.full((2, 8), value, requires_grad=True)
        _, loss, terms = _vae_terms(handin, (torch.zeros(2, 8), second), torch.zeros(2, *SHAPE))
        kl = need(terms.get("kl_loss"), "kl_loss")
        if not (isinstance(kl, Tensor) and kl.requires_grad):
            kl = loss
        (gradient,) = torch.autograd.grad(kl.sum(), second, allow_unused=True)
        fine = gradient is None or bool(torch.isfinite(gradient).all())
        if not fine or not math.isfinite(float(kl)):
            bad.append(f"{value:g}")
    if not bad:
        return right()
    return differs(
        f"infinite or NaN at log_std {', '.join(bad)}: the logarithm of an exponential ends at "
        "about -52, where a narrow latent would end the run; 2 * log_std is exact"
    )


# ------------------------------------------------------------------------------------------------
# Schedules and the loop


LISTED = "a list of values by epoch, instead of a function: it ends at the last epoch"


def _at(schedule: Any, epoch: int) -> float:
    """Of a function of the epoch, or of a list."""
    value = need(schedule(epoch) if callable(schedule) else schedule[epoch], "its value")
    if getattr(value, "ndim", None) or (isinstance(value, list | tuple) and len(value) != 1):
        seen = f"{len(value)} values for epoch {epoch}"
        raise Slip(wrong(seen, "one number", "beta is not a weight", "index them by the epoch"))
    return float(value)


@check("vae", "2.3.1", "0.8 at any epoch", "another objective", "return target_val")
def constant_beta(handin: HandIn) -> Verdict:
    """constant_beta_scheduler."""
    schedule = need(handin.get("train", "constant_beta_scheduler")(target_val=0.8), "the schedule")
    got = [_at(schedule, epoch) for epoch in (0, 7, 19)]
    return (
        remarked([LISTED] * (not callable(schedule))) if close(got, [0.8] * 3) else wrong(f"{got}")
    )


@check("vae", "2.3.2", cost="another weight of the KL term than the question's",
       mend="target_val * epoch / max_epochs")  # fmt: skip
def linear_beta(handin: HandIn) -> Verdict:
    """linear_beta_scheduler: 0 at epoch 0, target_val at max_epochs."""
    make, remarks = handin.get("train", "linear_beta_scheduler"), {}
    for target in (1.0, 0.8, 1.2):
        schedule = need(make(max_epochs=20, target_val=target), "the schedule")
        epochs = (0, 10, 19, 20) if callable(schedule) else (0, 10, 19)
        got = [_at(schedule, epoch) for epoch in epochs]
        expected = [target * epoch / 20 for epoch in epochs]
        if close(got[:3], [0, target * 10 / 19, target]):
            remarks["the target is reached at the last epoch, 19 of 20 (max_epochs - 1)"] = 1
        elif not close(got, expected):
            shown, wanted = (", ".join(f"{value:.3f}" for value in b) for b in (got, expected))
            at = ", ".join(map(str, epochs))
            return wrong(f"{shown} at epochs {at} of 20 for a target of {target:g}", wanted)
        remarks |= {} if callable(schedule) else {LISTED: 1}
    return remarked([*remarks])


class Loader(list):
    """Batches, and how many images they are, for who asks as of a DataLoader."""

    @property
    def dataset(self) -> range:
        """As many as there are images."""
        return range(sum(len(x) for x, _ in self))


def _loader(values: list[tuple[int, float]]) -> Loader:
    """Batches (count, pixel value)."""
    return Loader((torch.full((n, *SHAPE), v), torch.zeros(n, dtype=torch.long)) for n, v in values)


def _accepted(function: Callable, **options: Any) -> dict:
    names = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in names}


class Recorder(torch.optim.SGD):
    """Changes nothing; keeps the norms of the gradients that it is given, and the decoder's."""

    def __init__(self, module: Any):
        super().__init__(module.parameters(), lr=0.0)  # each batch meets the same weights
        self.parts = [*module.parameters()], [*module.decoder.parameters()]
        self.norms: list[list[float]] = [[], []]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Not a step."""
        for norms, part in zip(self.norms, self.parts, strict=True):
            norms.append(math.hypot(*(p.grad.norm().item() for p in part if p.grad is not None)))


def _autoencoder(handin: HandIn, variational: bool = True) -> Any:
    torch.manual_seed(0)
    return handin.get("model", "AEModel")(variational, 8, SHAPE)


def _epoch(handin: HandIn, mode: str, beta: float, batches: Any, clip: float = 1e9) -> Any:
    """The norms by which an epoch of run_train_epoch steps, with the same noise at every call."""
    epoch, model = handin.get("train", "run_train_epoch"), _autoencoder(handin, mode == "vae")
    optimizer = Recorder(model)
    torch.manual_seed(1)
    names = inspect.signature(epoch).parameters
    epoch(
        model,
        mode,
        batches,
        optimizer,
        beta,
        **({"grad_clip": clip} if "grad_clip" in names else {}),
    )
    return optimizer.norms


@check("vae", "2.1", "at most those", "the reference setting is clipped at every step",
       "clip_grad_norm_(model.parameters(), grad_clip) between backward() and step()"
       )  # fmt: skip
def clipping(handin: HandIn) -> Verdict:
    """run_train_epoch clips the gradient before the step."""
    if "grad_clip" not in inspect.signature(handin.get("train", "run_train_epoch")).parameters:
        return differs("run_train_epoch has no argument grad_clip")
    rng = torch.Generator().manual_seed(0)
    batches = Loader((torch.rand(4, *SHAPE, generator=rng), torch.zeros(4)) for _ in range(2))
    found = {limit: _epoch(handin, "vae", 1, batches, limit)[0] for limit in (1.0, 0.25)}
    for limit, norms in found.items():
        if len(norms) != 2:
            seen, mend = f"{len(norms)} steps for 2 batches", "optimizer.step() once"
            return wrong(seen, "one step a batch", "another training", mend)
        if max(norms) > 1.001 * limit:
            shown = ", ".join(f"{norm:.3g}" for norm in found[1.0] + found[0.25])
            return wrong(f"norms {shown} for limits 1 and 0.25")
    return right()


@check("vae", "2.1", "the gradient of its own batch", "another training, or none",
       "zero_grad(), backward(), clip_grad_norm_(...), step(), in this order")  # fmt: skip
def epoch_steps(handin: HandIn) -> Verdict:
    """run_train_epoch steps by each batch's own gradient."""
    norms, _ = _epoch(handin, "ae", 1, _loader([(4, 0.3), (4, 0.3)]))  # of the same weights
    if len(norms) != 2:
        return wrong(f"{len(norms)} steps for 2 batches", "one step a batch")
    if not all(norms):
        return wrong(f"gradients of norm {norms[0]:.3g} and {norms[1]:.3g} at the step")
    if not close(norms[0], norms[1], 1e-3):
        seen = f"for the same batch twice a gradient {norms[1] / norms[0]:.3g} times the first"
        return wrong(f"{seen}: they are added up")
    return right()


@check("vae", "2.3.1", "0.3", "another objective", "vae_loss(model, x, beta)")
def beta_reaches_loss(handin: HandIn) -> Verdict:
    """run_train_epoch hands beta to the loss."""
    make, given = handin.get("train", "vae_loss"), []
    names = list(inspect.signature(make).parameters)

    def spy(*args: Any, **kwargs: Any) -> Any:
        bound = dict(zip(names, args, strict=False)) | kwargs
        given.append(float(bound.get("beta", 1)))
        return make(*args, **kwargs)

    handin.module("train").vae_loss = spy
    _epoch(handin, "vae", 0.3, _loader([(2, 0.5)]))
    if given:
        return right() if close(given, [0.3] * len(given)) else wrong(f"beta {given[0]:g}")
    # By another way: its gradient g + beta h has a square norm that is a parabola of beta.
    seen = [_epoch(handin, "vae", beta, _loader([(2, 0.5)])) for beta in (0.0, 1e3, 2e3, 3e2)]
    other = _epoch(handin, "vae", 0.0, _loader([(2, 0.9)]))[0][0] ** 2
    none, one, two, some = (norms[0] ** 2 for norms, _ in seen)
    bend = (two - 2 * one + none) / 2
    if close(none, one, 1e-3):
        if not close(none, other, 1e-3):
            return wrong("no gradient depends on beta", "one")
    elif close(some, none + 0.3 * (one - none - bend) + 0.09 * bend, 1e-2):
        decoders = {round(norms[0], 3) for _, norms in seen}  # the KL has no part there
        if len(decoders) == 1 and decoders != {0.0}:
            return right()
    return differs("by another way than vae_loss of train.py: not looked into")


BATCHES = [(4, 1.0), (1, 0.0)]  # one of four images, and one of one


def _metrics(handin: HandIn) -> tuple[Fixed, dict]:
    model = _fixed(handin, (torch.zeros(4, 8),), 1.0)
    found = handin.get("train", "get_val_metrics")(model, "ae", _loader(BATCHES))
    return model, need(found, "get_val_metrics")


@check("vae", "2.1", cost="a wrong curve",
       mend="sum the losses of batches times their sizes, divide by the number of images"
       )  # fmt: skip
def weighted_means(handin: HandIn) -> Verdict:
    """validation means weigh images equally."""
    model, metrics = _metrics(handin)
    got, loss = float(need(metrics.get("recon_loss"), "recon_loss")), handin.get("train", "ae_loss")
    four, one = (float(loss(model, x)[1]["recon_loss"]) for x in model.seen[-2:])
    alike = "a mean of batch means, as the handout's own code has it: CIFAR-10's last 16 images "
    alike += "weigh as much as 256 (a bias of less than 0.1 %)"
    return nearest(got, (4 * four + one) / 5, [((four + one) / 2, alike)], [])


@check("vae", "2.1", "1 and -1 in both", "validation measures another problem",
       "preprocess_data(x) (2 x - 1) in both, once")  # fmt: skip
def same_range(handin: HandIn) -> Verdict:
    """training and validation see images in [-1, 1]."""
    trained = _fixed(handin, (torch.zeros(4, 8),), 1.0)
    handin.get("train", "run_train_epoch")(trained, "ae", _loader(BATCHES), Recorder(trained), 1)
    both = (trained, _metrics(handin)[0])
    train, val = ([round(float(x.flatten()[0]), 3) for x in model.seen] for model in both)
    if sorted(train) == sorted(val) and (val == [1, -1] or val == [1, 0]):
        return right()  # (1, 0): its loader scales
    return wrong(f"pixels of 1 and 0 reach the encoder as {train} in training, {val} in validation")


@check("vae", "2.1")
def validation(handin: HandIn) -> Verdict:
    """validation takes no gradients and leaves the weights alone."""
    model = _autoencoder(handin)
    before = [p.detach().clone() for p in model.parameters()]
    asked = []  # whether gradients were kept
    model.encoder.register_forward_hook(lambda *args: asked.append(torch.is_grad_enabled()))
    handin.get("train", "get_val_metrics")(model, "vae", _loader([(2, 0.5)]))
    if any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)):
        mend = "no optimizer in validation"
        return wrong("weights change", "none", "validation images are trained on", mend)
    if any(asked):
        return differs("gradients are kept for nothing: torch.no_grad() saves memory and time")
    return right()


@check("vae", "2.1")
def pictures(handin: HandIn) -> Verdict | None:
    """pictures: samples and reconstructions are written."""
    utils = handin.module("utils")
    if not hasattr(utils, "vis_samples") or not hasattr(utils, "vis_recons"):
        return None
    model = _autoencoder(handin)
    before = set(handin.folder.rglob("*.png"))
    with contextlib.suppress(FileNotFoundError):
        to = [str(handin.folder / f"epoch_{number}") for number in range(2)]
        call(utils.vis_samples, model=model, _file=to[0], latent_size=8, num_samples=49)
        call(utils.vis_recons, model=model, x=torch.rand(36, *SHAPE), _file=to[1])
    new = set(handin.folder.rglob("*.png")) - before
    if len(new) >= 2:
        return right()
    return wrong(f"{len(new)} new PNGs", "two", "nothing to look at", "see save_samples")


@check("vae", "2.1")
def preprocessing(handin: HandIn) -> Verdict | None:
    """images are scaled from [0, 1] to [-1, 1]."""
    function = getattr(handin.module("utils"), "preprocess_data", None)
    if function is None:
        return None
    got = function(torch.tensor([0.0, 0.5, 1.0])).tolist()
    if close(got, [-1, 0, 1]):
        return right()
    texts = [path.read_text(errors="replace") for path in handin.folder.glob("*.py")]
    if close(got, [0, 0.5, 1]) and any("Normalize(" in text for text in texts):
        return differs("left as they are: the loader scales, by Normalize")
    return wrong(f"0, 0.5, 1 become {got}", "-1, 0, 1", "another range", "2 * x - 1")


RUNS: list[tuple] = [("ae", "constant", size, 1) for size in (16, 128, 1024)]
RUNS += [("vae", "constant", 1024, beta) for beta in (1, 0.8, 1.2)] + [("vae", "linear", 1024, 1)]
AS_ASKED = {"num_epochs": 20, "batch_size": 256, "lr": 1e-3, "grad_clip": 1}


@check("vae", "2.1")
def script(handin: HandIn) -> Verdict:
    """train.py asks for the runs of 2.1 to 2.3.2, 20 epochs of batches of 256."""
    try:
        calls = handin.calls_of_main("train", "main")
    except (SystemExit, ValueError):  # it wants to be told which
        calls = handin.calls_of_main("train", "main", "all")  # this project's own word
    if not calls:
        raise NotThere("train.py does not call main")
    named = ("loss_mode", "beta_mode", "latent_size", "target_beta_val")
    seen = [tuple(call.get(name) for name in named) for call in calls]
    seen = [("ae", "constant", one[2], 1) if one[0] == "ae" else one for one in seen]  # no beta
    missing = [one for one in RUNS if one not in seen]
    remarks = [
        f"{name} {calls[0][name]:g} instead of {value:g}"
        for name, value in AS_ASKED.items()
        if isinstance(calls[0].get(name), int | float) and calls[0][name] != value
    ]
    if missing:
        shown = "; ".join(
            f"{loss} {size}, {mode} beta {beta:g}" for loss, mode, size, beta in missing
        )
        remarks.append(f"{len(missing)} of these runs are not called (commented out?): {shown}")
    return remarked(remarks)
