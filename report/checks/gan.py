"""Questions 1.1 to 1.5: what can be seen of gan/ from outside."""

import bisect
import contextlib
import functools
import inspect
import math
import re
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from checks import HandIn, NotThere, Slip, Verdict, check, differs, remarked, right, wrong
from checks.stand_ins import GREY, StandIn

LATENT_DIM = 128
OTHER = "it is another network than the one the reference numbers were made with"
NOBODY = "nobody asks for another"
ARGUMENTS = "the loss takes other arguments than the handout's: not looked into"


def need(value: Any, what: str) -> Any:
    """The value, or NotThere where a TODO still returns None."""
    parts = value if isinstance(value, tuple) else (value,)
    if any(isinstance(part, StandIn) for part in parts):
        raise TypeError(f"{what} comes from a module that is not installed")
    if any(part is None for part in parts):
        raise NotThere(f"{what} is None: a TODO")
    return value


def shaped(value: Any, *shape: int) -> Tensor:
    """The tensor, or a slip where it has another shape."""
    if tuple(need(value, "the output").shape) == shape:
        return value
    raise Slip(wrong(f"shape {tuple(value.shape)}", f"{shape}", "nothing fits", "see forward"))


def close(left: Any, right: Any, tolerance: float = 1e-4) -> bool:
    """Equal up to rounding, and of one shape."""
    # A shape that would broadcast is another shape.
    left, right = (torch.as_tensor(value, dtype=torch.float64) for value in (left, right))
    return left.shape == right.shape and torch.allclose(left, right, tolerance, tolerance)


def nearest(got: float, expected: float, legit: list, slips: list, *words: str) -> Verdict:
    """By the first number that `got` is close to; words: before what is seen, and expected.

    legit: numbers of variants, and a sentence. slips: numbers, what stands behind them, its cost.
    """
    if close(got, expected):
        return right()
    for value, sentence in legit:
        if close(got, value):
            return differs(sentence)
    why, cost = next(((why, cost) for value, why, cost in slips if close(got, value)), ("", ""))
    seen, wanted, *_ = *words, "", ""
    return wrong(f"{seen}{got:.5g}{why}", f"{wanted}{expected:.5g}", cost)


def call(function: Callable, **values: Any) -> Any:
    """With those of the values that it has parameters for, by name; the others by position."""
    parameters = inspect.signature(function).parameters
    needed = [one for one in parameters.values() if one.default is one.empty]
    names = [one.name for one in needed if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    if set(names) <= values.keys():
        return function(**{name: values[name] for name in parameters if name in values})
    return function(*list(values.values())[: len(names)])


def used(module: nn.Module, *given: Any) -> list[tuple[Any, Tensor, Tensor]]:
    """The parts that a call goes through, itself last: with copies of what each is given, gives."""
    found: list[tuple[Any, Tensor, Tensor]] = []

    def keep(part: nn.Module, args: tuple, out: Any) -> None:
        pair = [x.clone() if isinstance(x, Tensor) else torch.empty(0) for x in (*args[:1], out)]
        found.append((part, pair[0], pair[-1]))

    hooks = [part.register_forward_hook(keep) for part in module.modules()]
    with torch.no_grad():
        need(module(*given), f"{type(module).__name__}'s output")
    for hook in hooks:
        hook.remove()
    return found


def parts_of(module: nn.Module, *kinds: type) -> list:
    """Its parts of these kinds, whatever they are called."""
    return [part for part in module.modules() if isinstance(part, kinds)]


def numbered_images(count: int, channels: int, size: int) -> Tensor:
    """(count, channels, size, size), every pixel another number."""
    rng = torch.Generator().manual_seed(3)  # the same at every call, whatever was drawn before
    return torch.randn(count, channels, size, size, generator=rng)


# ------------------------------------------------------------------------------------------------
# 1.1: the networks


def _resampling(handin: HandIn, name: str, x: Tensor, resample: Any, others: list) -> Verdict:
    """By its one convolution. others: what stands in the place of `resample` at times."""
    layer = handin.get("networks", name)(8, kernel_size=3, n_filters=5, padding=1)
    if len(convs := parts_of(layer, nn.Conv2d)) != 1:
        raise NotThere(f"{name} has {len(convs)} convolutions, not one")
    (conv,), got = convs, need(layer(x), f"{name}'s output")
    if got.ndim != 4 or got.shape[1] != 5:
        return differs(f"n_filters=5 gives shape {tuple(got.shape)}: a literal; {NOBODY}")
    if close(got, conv(resample(x))):
        return right()
    for seen, cost, other in others:
        if close(got, conv(other)):
            return wrong(seen, cost=cost)
    if close(got, resample(conv(x))):
        return wrong("the convolution comes first", cost=OTHER, mend="resample, then self.conv")
    return wrong(f"an output of shape {tuple(got.shape)} that no such layer gives", cost=OTHER)


@check("gan", "1.1", "each pixel copied to a 2x2 square of its own channel",
       "with 128 channels 32 different maps instead of 128; measured here on 1,000 iterations of "
       "WGAN-GP, a Frechet distance of 811.9 instead of 736.8",
       'F.interpolate(x, scale_factor=2, mode="nearest"), or repeat_interleave(4, dim=1) before '
       "the pixel shuffle")  # fmt: skip
def upsampling(handin: HandIn) -> Verdict:
    """UpSampleConv2D is nearest-neighbour upsampling, then the convolution."""
    x = numbered_images(2, 8, 4)
    literal = "x.repeat(1, 4, 1, 1) and PixelShuffle, which is what the handout's words say, mix "
    literal += "four channels into one: PixelShuffle wants the copies of a channel side by side"
    smooth = "bilinear upsampling", "blurred features", F.interpolate(x, None, 2, "bilinear")
    others = [(literal, "", F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2)), smooth]
    copied = functools.partial(F.interpolate, scale_factor=2, mode="nearest")
    return _resampling(handin, "UpSampleConv2D", x, copied, others)


@check("gan", "1.1", "the mean of each 2x2 square, within a channel of an image (F.avg_pool2d)",
       mend="F.avg_pool2d(x, 2), or the mean over the 4 of (batch, channel, 4, h, w)")  # fmt: skip
def pooling(handin: HandIn) -> Verdict:
    """DownSampleConv2D is mean pooling, then the convolution."""
    x = numbered_images(4, 8, 8)  # as many images as pixels in a square: a wrong axis fits, too
    parts, pool = F.pixel_unshuffle(x, 2).reshape(4, 4, 8, 4, 4), lambda x: F.avg_pool2d(x, 2)
    images = "the mean runs over images: a view to (4, batch, channel, h, w), as the handout words "
    images += "it, takes the batch apart, not the pixels"
    alone = "an image's score depends on other images, and the penalty per image means nothing"
    channels = "the mean runs over four different channels: PixelUnshuffle puts the four pixels of "
    channels += "one channel side by side"
    others = [
        (images, alone, parts.mean(0)),
        (channels, "colours and features are mixed in every block", parts.mean(1)),
        ("the sum of each square", "activations four times as large", 4 * pool(x)),
        ("the largest of each square", "other features", F.max_pool2d(x, 2)),
    ]
    return _resampling(handin, "DownSampleConv2D", x, pool, others)


def _discriminator(handin: HandIn) -> nn.Module:
    return handin.get("networks", "Discriminator")()


@check("gan", "1.1", "its own score, and no other",
       "a score says nothing about its image; the penalty is defined per image",
       "see the pooling layer; no batch normalisation in the discriminator")  # fmt: skip
def scores_alone(handin: HandIn) -> Verdict:
    """an image's score depends on that image alone."""
    disc, x = _discriminator(handin), numbered_images(8, 3, 32)
    changed = x.clone()
    changed[1] = -changed[1]  # and no other score may move
    before, after = (need(disc(y), "the discriminator's output").detach() for y in (x, changed))
    # Batched arithmetic moves the others by rounding alone.
    moved = [n for n in range(8) if not close(before[n].flatten(), after[n].flatten(), 1e-3)]
    seen = f"changing image 1 of 8 changes the scores of images {moved or 'none'}"
    return right() if moved == [1] else wrong(seen)


def _count(handin: HandIn, network: str, expected: int) -> Verdict:
    module = handin.get("networks", network)()
    got = sum(parameter.numel() for parameter in module.parameters())
    if got == expected:
        return right(f"{got:,}")
    if getattr(module, "layers", 0) is None or got == 0:
        raise NotThere(f"{network} has no layers: a TODO")
    return wrong(f"{network} has {got:,} parameters ({got - expected:+,})", f"{expected:,}")


for _network, _parameters in (("Generator", 1_204_099), ("Discriminator", 1_053_825)):
    _name = _network.lower()
    check("gan", "1.1", cost=OTHER, name=f"{_name}_parameters",
          mend="compare with the layers that the handout prints; 128 are a bias of 128 channels",
          what=f"the {_name} has {_parameters:,} parameters")(
        functools.partial(_count, network=_network, expected=_parameters)
    )  # fmt: skip


def _without(block: nn.Module, convs: list, x: Tensor) -> Tensor:
    """The block's output where these convolutions give zeros."""
    before = [(p, p.detach().clone()) for conv in convs for p in conv.parameters()]
    for parameter, _ in before:
        parameter.zero_()  # bias and all: it gives nothing
    got = block(x.clone()).clone()
    for parameter, value in before:
        parameter.copy_(value)
    return got


@torch.no_grad()
def _residual(handin: HandIn, block: str, resampler: str) -> Verdict:
    """By what is left where one way is silenced: the 3x3 convolutions, or those of the shortcut."""
    make, width = handin.get("networks", block), 16
    try:
        module = make(width, n_filters=width).eval()
    except TypeError as error:
        if error.__traceback__ and error.__traceback__.tb_next:  # a slip within
            raise
        return differs(f"other arguments than the handout's ({error}): not looked into")
    need(getattr(module, "layers", 0), f"{block}.layers")
    try:
        module(numbered_images(3, width, 8))
    except RuntimeError:  # 128 is written into it
        width = 128
        module = make(width, n_filters=width).eval()
    x = numbered_images(3, width, 8)
    convs = parts_of(module, nn.Conv2d)
    # By their size, for the attributes have other names in some hand-ins.
    main = [conv for conv in convs if conv.kernel_size != (1, 1)]
    side = [conv for conv in convs if conv.kernel_size == (1, 1)]
    kind = handin.get("networks", resampler) if resampler else nn.Module
    holders = [part for part in parts_of(module, kind) if {*side} & {*part.modules()}]
    if len(main) != 2 or len(side) != bool(resampler) or (resampler and not holders):
        kinds = ", ".join("x".join(map(str, conv.kernel_size)) for conv in convs)
        return differs(f"convolutions of {kinds or 'no size'}: another structure, not looked into")
    shortcut = holders[-1] if resampler else (lambda x: x)  # the hand-in's own resampling
    given = x.clone()  # what happens to it is seen below
    *parts, (_, _, full) = used(module, given)
    negative = [bool(taken.min() < 0) for part, taken, _ in parts if part in main]
    only_side = _without(module, main, x)
    expected, trapped = shortcut(x.clone()), shortcut(F.relu(x))
    summed = not side or close(full, _without(module, side, x) + only_side, 1e-3)
    if close(only_side, torch.zeros_like(only_side)):
        return wrong("no shortcut", cost="the block is not residual")
    if close(only_side, trapped) and not close(trapped, expected):
        seen = "the shortcut gets relu(x): an in-place ReLU at the head of the layers changed x"
        mend = "nn.ReLU() without inplace, or take the shortcut first"
        return wrong(seen, cost="half of each residual is lost", mend=mend)
    if not close(only_side, expected) or not summed:
        return wrong("another sum")
    if not close(given, x):
        seen = f"the sum is right, and {block} changes the tensor that it was given"
        mend = "no in-place addition, no ReLU(inplace=True) at the head of the block"
        return wrong(seen, cost="whoever uses that tensor again gets another", mend=mend)
    if any(negative):
        seen = f"negative numbers reach the 3x3 convolution {negative.index(True) + 1}"
        return wrong(seen, "a ReLU before each of the two", OTHER, "nn.ReLU() before it")
    if not resampler or width == 128:
        return right()
    try:
        filters = make(width, n_filters=5)(x).shape[1]
    except RuntimeError:
        return differs("it runs with as many filters as channels alone; nobody asks for others")
    return right() if filters == 5 else differs(f"n_filters=5 gives {filters} filters; {NOBODY}")


for _name, _block, _resampler, _what, _sum in (
    ("block_up", "ResBlockUp", "UpSampleConv2D", "its upsampled input", "the resampled x"),
    ("block_down", "ResBlockDown", "DownSampleConv2D", "its pooled input", "the resampled x"),
    ("block", "ResBlock", "", "its input", "x"),
):
    check("gan", "1.1", f"layers(x) + {_sum}, x left as it is", mend="return the sum of the two",
          name=_name, what=f"{_block} adds {_what}")(
        functools.partial(_residual, block=_block, resampler=_resampler)
    )  # fmt: skip


def _drawn(handin: HandIn, count: int, **options: Any) -> tuple[Any, Tensor]:
    """A generator, and its images of so many latents."""
    gen = handin.get("networks", "Generator")(**options)
    need(getattr(gen, "layers", 0), "Generator.layers")
    z = torch.randn(count, LATENT_DIM)
    return gen, need(gen.forward_given_samples(z), "forward_given_samples")


@check("gan", "1.1", "[-1, 1], by a Tanh at the end",
       "the discriminator tells fakes by their range", "add nn.Tanh()")  # fmt: skip
def images(handin: HandIn) -> Verdict:
    """images are (B, 3, 32, 32), through a Tanh."""
    gen, x = _drawn(handin, 6)
    shaped(x, 6, 3, 32, 32)
    with torch.no_grad():
        # So large that an output without Tanh leaves [-1, 1].
        parts_of(gen, nn.Conv2d)[-1].weight.mul_(1000)
        x = gen.forward_given_samples(torch.randn(6, LATENT_DIM))
    low, high = x.min().item(), x.max().item()
    if low < -1.001 or high > 1.001:
        return wrong(f"with large weights pixels in [{low:.3g}, {high:.3g}]")
    return wrong(f"no pixel below {low:.2f}") if low > -0.01 else right()


@check("gan", "1.1", "N(0, I)", "FID and pictures draw from another law", "torch.randn")
def latents(handin: HandIn) -> Verdict:
    """forward(n) draws n latents from N(0, I)."""
    (gen, _), notes = _drawn(handin, 2), handin.notes
    notes.cuda = notes.half = False
    calls = [used(gen, 50) for _ in range(2)]
    if len(x := calls[0][-1][-1]) != 50:
        return wrong(
            f"{len(x)} images", "50, one for each latent", "other batches", "use n_samples"
        )
    seen = [[x for part, x, _ in parts if isinstance(part, nn.Linear)] for parts in calls]
    if not all(seen):
        raise NotThere("Generator has no dense layer")
    z, again = (found[0].reshape(-1, LATENT_DIM).double() for found in seen)
    if torch.equal(z, again):
        cost = "one batch for ever"
        return wrong("the same latents twice", "fresh ones", cost, "draw in forward")
    mean, std = z.mean().item(), z.std().item()
    if abs(mean) > 0.05 or abs(std - 1) > 0.05 or (z.abs() > 2).double().mean() < 0.02:
        uniform = " (uniform numbers?)" if z.abs().max() <= 1.8 else ""
        return wrong(f"latents of mean {mean:.2f} and standard deviation {std:.2f}{uniform}")
    half = "latents in float16: coarser, and an error without autocast (--disable_amp)"
    cuda = "latents are put on 'cuda' by name: write device=self.dense.weight.device"
    return remarked([half] * notes.half + [cuda] * notes.cuda)


@check("gan", "1.1", "(2, 3, 16, 16)",
       "pictures are cut out of several latents' features, and their number is another",
       "view(len(z), 128, size, size) with the size given")  # fmt: skip
def starting_size(handin: HandIn) -> Verdict:
    """starting_image_size sets the size of the images."""
    try:
        _, x = _drawn(handin, 2, starting_image_size=2)
    except RuntimeError as error:
        return differs(f"only 4 works ({str(error).splitlines()[0][:80]}); {NOBODY}")
    if tuple(x.shape) == (2, 3, 16, 16):
        return right()
    seen = f"2 latents and a starting size of 2 give shape {tuple(x.shape)}"
    literal = differs(f"{seen}, not side 16: a literal 4 somewhere; {NOBODY}")
    return literal if len(x) == 2 else wrong(seen)


@check("gan", "1.1", "the sum of the features over height and width", OTHER, "x.sum(dim=(2, 3))")
def score_of_sum(handin: HandIn) -> Verdict:
    """the discriminator sums over space and returns raw scores."""
    disc = _discriminator(handin)
    need(getattr(disc, "layers", 0), "Discriminator.layers")
    parts = used(disc, numbered_images(5, 3, 32))
    heads = [pair for part, *pair in parts if isinstance(part, nn.Linear)]
    if not heads:
        raise NotThere("Discriminator.forward does not use its dense layer")
    (given, out), scores = heads[0], parts[-1][-1]
    maps = [gives for *_, gives in parts if gives.ndim == 4]
    if maps and given.shape[-1] == maps[-1][0].numel():
        return wrong(f"a Linear({given.shape[-1]}, 1) over the whole map")
    if not maps or given.shape[-1] != maps[-1].shape[1]:
        return differs("no map of features before the last layer: not looked into")
    # A ReLU may have no module of its own.
    got, bare, kept = given.reshape(5, -1), maps[-1], maps[-1].relu()
    if close(got, kept.mean((2, 3))) or close(got, bare.mean((2, 3))):
        cost = "the last layer sees features 64 times smaller: other scores, another rate"
        return wrong("the mean over space", cost=cost)
    if not close(got, kept.sum((2, 3))):
        if close(got, bare.sum((2, 3))):
            return wrong("no ReLU before the sum", "one", mend="nn.ReLU() at the end of the layers")
        return wrong("something else")
    if not close(scores.flatten(), out.flatten()):
        sigmoid = close(scores.flatten(), out.sigmoid().flatten())
        end = "a sigmoid at the end" if sigmoid else "something after the last layer"
        cost = "the losses take logits: gradients vanish, and WGAN's scores cannot grow"
        return wrong(end, "raw scores", cost, "return the dense layer's output")
    shape = tuple(scores.shape)
    return remarked([f"scores of shape {shape} instead of (B, 1)"] * (shape != (5, 1)))


# ------------------------------------------------------------------------------------------------
# 1.2: the training code


@check("gan", "1.2", "-1.00, -0.00, 1.00",
       "real and generated images have different ranges, which any discriminator sees",
       "ToTensor(), then Normalize((0.5,) * 3, (0.5,) * 3)")  # fmt: skip
def transform(handin: HandIn) -> Verdict:
    """images are scaled to [-1, 1]."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, 11:22], pixels[:, 22:] = 127, 255  # black, grey and white, side by side
    function = need(handin.get("train", "build_transforms")(), "its result")
    expected, mirrored = [-1, 127 / 127.5 - 1, 1], []
    for _ in range(8):  # there may be chance in it
        x = function(Image.fromarray(pixels))
        got = [x[:, :, column].mean().item() for column in (0, 15, 30)]
        mirrored.append(close(got, expected[::-1], 1e-3))
        if tuple(x.shape) != (3, 32, 32) or not (mirrored[-1] or close(got, expected, 1e-3)):
            mirrored = [True]
            break
    if not all(mirrored):  # always would be black for white
        return remarked(["images are mirrored at random: more data"] * any(mirrored))
    shown = ", ".join(f"{value:.2f}" for value in got)
    return wrong(f"black, grey, white become {shown}, shape {tuple(x.shape)}")


def _optimizers(handin: HandIn) -> tuple:
    gen, disc = nn.Linear(3, 3), nn.Linear(4, 4)  # told apart by their first weight's shape
    found = need(handin.get("train", "get_optimizers_and_schedulers")(gen, disc), "its result")
    every = [part for part in found if isinstance(part, torch.optim.Optimizer)]
    sides = [part.param_groups[0]["params"][0].shape[0] for part in every]
    if len(every) < 2:
        raise NotThere("get_optimizers_and_schedulers does not return two optimizers")
    if len({*sides}) < 2:
        seen = f"both optimizers are the {'generator' if sides[0] == 3 else 'discriminator'}'s"
        mend = "gen.parameters(), disc.parameters()"
        raise Slip(wrong(seen, "one for each network", "the other network never learns", mend))
    return found, {"discriminator": every[sides.index(4)], "generator": every[sides.index(3)]}


@check("gan", "1.2", "Adam, 2e-4, (0, 0.9) for both",
       "the hyper-parameters are fixed; numbers do not compare with the reference",
       old=("adam", "scheduler"))  # fmt: skip
def optimizers(handin: HandIn) -> Verdict:
    """Adam with rate 2e-4 and betas (0, 0.9)."""
    found, optimizers = _optimizers(handin)
    if found[0] is not optimizers["discriminator"] or found[2] is not optimizers["generator"]:
        return differs("another order than discriminator, its schedule, generator, its schedule")
    slips = []
    for name, optimizer in optimizers.items():
        kind = type(optimizer).__name__
        for group in optimizer.param_groups:
            rate = group.get("initial_lr", group["lr"])
            if kind not in ("Adam", "AdamW") or group.get("weight_decay"):
                slips.append(f"{name}: {kind}, weight decay {group.get('weight_decay', 0)}")
            elif not close(rate, 2e-4, 1e-6) or not close(group["betas"], (0, 0.9), 1e-6):
                slips.append(f"{name}: rate {rate:g}, betas {tuple(group['betas'])}")
            elif group["amsgrad"] or group["eps"] > 1e-6:
                slips.append(f"{name}: amsgrad {group['amsgrad']}, eps {group['eps']:g}")
    return wrong("; ".join(slips)) if slips else right()


def rate_after(scheduler: Any, steps: int) -> float:
    """The learning rate after so many steps, without taking them where that can be had."""
    if isinstance(scheduler, torch.optim.lr_scheduler.SequentialLR):
        index = bisect.bisect_right(scheduler._milestones, steps)
        begun = scheduler._milestones[index - 1] if index else 0
        return rate_after(scheduler._schedulers[index], steps - begun)
    scheduler.optimizer.step()  # once, or the schedule warns of its order
    by_lambda = isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
    if by_lambda or hasattr(scheduler, "_get_closed_form_lr"):
        try:
            scheduler.step(steps)
            return scheduler.optimizer.param_groups[0]["lr"]
        except (OverflowError, ZeroDivisionError):
            scheduler.last_epoch, steps = 0, min(steps, 1000)  # by its steps then, some of them
    while scheduler.last_epoch < steps:
        scheduler.step()
    return scheduler.optimizer.param_groups[0]["lr"]


@check("gan", "1.2", "1, 0.94, 0.5, 0, 0",
       "little within 30,000 iterations; it is not the schedule that was asked for",
       "LambdaLR(optimizer, lambda step: max(0.0, 1 - step / total))",
       old=("scheduler",))  # fmt: skip
def schedules(handin: HandIn) -> Verdict:
    """the rates fall linearly to 0 over 500K and 100K steps."""
    found, optimizers = _optimizers(handin)
    shares, slips, notes, cost = (0, 0.06, 0.5, 1, 1.2), [], [], ""  # 1.2: past the end
    for name, total in (("discriminator", 500_000), ("generator", 100_000)):
        own = [part for part in found if getattr(part, "optimizer", None) is optimizers[name]]
        if not own:
            raise NotThere(f"no schedule for the {name}")
        if not hasattr(own[0], "last_epoch"):
            return differs(f"a class of its own ({type(own[0]).__name__}): not looked into")
        got = [rate_after(own[0], round(share * total)) / 2e-4 for share in shares]
        expected = [max(0.0, 1 - share) for share in shares]
        if close(got[:4], expected[:4], 2e-3) and got[4] < 0:
            notes.append(f"{name}: past its {total:,} steps the rate is negative")
        elif not close(got, expected, 2e-3):
            shown = ", ".join(f"{value:.3f}" for value in got)
            after = ", ".join(f"{share:.0%}" for share in shares)
            slips.append(f"{name} ({type(own[0]).__name__}): {shown} of 2e-4 after {after}")
            if abs(got[1] - expected[1]) > 0.05:
                cost = f"after 30,000 iterations the rate is {got[1]:.2f} of 2e-4 instead of 0.94"
    if slips:
        return wrong("; ".join(slips), cost=cost)
    why = ["nothing within 30,000 iterations; a longer run climbs: max(0.0, 1 - step / total)"]
    return remarked(notes and notes + why)


class StubGenerator(nn.Module):
    """Images with a dark left and a light right half, from a bias that training moves."""

    device = torch.device("cpu")  # some ask for it
    picture: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(LATENT_DIM, 1)  # some look here for the device
        nn.init.zeros_(self.dense.bias)
        self.given: list[Tensor] = []
        self.own = False  # whether it was asked to draw by itself
        half = torch.full((3, 32, 32), 0.5)
        half[:, :, :16] = -0.5
        self.register_buffer("picture", half)

    def forward_given_samples(self, z: Tensor) -> Tensor:
        """(B, 128) -> (B, 3, 32, 32), alike for every latent."""
        self.given.append(z.detach().clone())
        # Of the bias alone, so that all images stay alike.
        return self.picture + self.dense.bias.repeat(z.numel() // LATENT_DIM).view(-1, 1, 1, 1)

    def forward(self, n_samples: int = 1024) -> Tensor:
        """So many of them."""
        self.own = True
        return self.forward_given_samples(torch.zeros(n_samples, LATENT_DIM))


class StubDiscriminator(nn.Module):
    """Scores: the mean pixel, times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(1, 1)
        self.greys: set[float] = set()  # mean pixels of the images that it was given

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 32, 32) -> (B, 1)."""
        grey = x.float().mean((1, 2, 3)).unsqueeze(1)  # (B, 1)
        self.greys |= {round(value, 2) for value in grey.flatten().tolist()}
        return self.dense(grey)


ITERATIONS, BATCH, PERIOD = 7, 4, 3


class Trace:
    """What seven iterations of a hand-in's train_model did, with stubs for both networks."""

    def __init__(self, handin: HandIn, logs: bool = False):
        """logs: also with log lines on the way; elsewhere a slip there should not matter."""
        self.train: Any = handin.home("train", "train_model")
        self.gen, self.disc = StubGenerator(), StubDiscriminator()
        self.phase = ""  # whose loss was asked for last: "D" or "G"
        self.schedulers: Any = ()
        self.forget()
        self.others = False  # whether the loss is given other arguments than the handout's
        self.fids: list[tuple] = []  # images and batch of each score
        handin.notes.half = False  # whether tensors are made float16 by hand
        self.run(handin, PERIOD if logs else 10**6)  # which is never

    def forget(self) -> None:
        """What was seen so far: a trial."""
        self.sizes: list[tuple[int, int]] = []  # real images and fakes of each discriminator step
        self.eps: list[Tensor] = []  # of the interpolates, per image; NaN off the segment
        self.connected: list[bool] = []  # whether D(x^) depends on x^
        self.mixed = False  # whether x^ hangs on the generator
        # The slope of each loss by the discriminator's weight, and that at each step.
        self.due: list[float] = []
        self.taken: list[float] = []
        # Gradients of the discriminator's loss that reached the generator, and its own steps.
        self.undetached = self.generator_steps = 0

    def disc_loss(self, *given: Any, **named: Any) -> Tensor:
        """A loss that looks at what it is given: the handout's five arguments, or others."""
        if not torch.is_grad_enabled():  # for a log line, not for a step
            return torch.zeros(())
        self.phase = "D"
        names = ("discrim_real", "discrim_fake", "discrim_interp", "interp", "lamb")
        values: Any = dict(zip(names, given, strict=False)) | named
        if len(given) + len(named) != 5 or values.keys() != {*names}:
            self.others = True
            parts = (*given, *named.values())
            scores = [part for part in parts if isinstance(part, Tensor) and part.ndim < 3]
            if parts and len(scores) < 2:
                raise Slip(differs(ARGUMENTS))
            values = dict(zip(names[:2], scores, strict=False))
        real, fake, d_interp, interp = map(values.get, names[:4])
        need((real, fake), "discrim_real or discrim_fake")
        self.sizes.append((len(real), len(fake)))
        loss = fake.float().mean() - real.float().mean()
        # d loss / d weight: the mean pixel of the fakes (the bias) less that of the real images.
        self.due.append(self.gen.dense.bias.item() - self.grey)
        if interp is None or d_interp is None:
            return loss
        # By images of one grey each: the share of the real one can be read off at every pixel.
        halves = interp.detach().float().flatten(1, 2).split(16, -1)  # (B, 96, 16) each
        every = [(h - g) / (self.grey - g) for h, g in zip(halves, (-0.5, 0.5), strict=True)]
        low, high = torch.cat(every, 1).flatten(1).aminmax(dim=1)  # (B,) each
        self.eps.append(torch.where(high - low < 0.02, (low + high) / 2, math.nan))
        slope = functools.partial(torch.autograd.grad, allow_unused=True)
        if interp.grad_fn is not None:
            (found,) = slope(interp.float().sum(), self.gen.dense.bias, retain_graph=True)
            self.mixed |= found is not None
        gradient = None
        if interp.requires_grad:
            with contextlib.suppress(RuntimeError):
                (gradient,) = slope(d_interp.float().sum(), interp, create_graph=True)
        self.connected.append(gradient is not None)
        return loss + (0.0 if gradient is None else 0.0 * gradient.float().square().sum())

    def gen_loss(self, *given: Any, **named: Any) -> Tensor:
        """A loss that looks at what it is given."""
        if not torch.is_grad_enabled():
            return torch.zeros(())
        self.phase = "G"
        self.generator_steps += 1
        fake = next(iter((*given, *named.values())), None)
        return -need(fake, "discrim_fake of the generator's step").float().mean()

    def run(self, handin: HandIn, period: int) -> None:
        """Seven iterations of batches of 4, from ten pictures."""
        train, picture = self.train, Image.new("RGB", (32, 32), (GREY,) * 3)
        every = [train.build_transforms()(picture) for _ in range(10)]
        self.grey = float(every[0].mean())  # of real images, as the loop meets them
        train.Dataset = lambda *args, **kwargs: every  # however a folder would be looked for
        make = train.get_optimizers_and_schedulers

        def make_and_keep(*args: Any, **kwargs: Any) -> tuple:
            self.forget()
            self.schedulers = make(*args, **kwargs)
            for part in self.schedulers:
                if isinstance(part, torch.optim.Optimizer):
                    part.register_step_pre_hook(self.before_step)
            return self.schedulers

        train.get_optimizers_and_schedulers = make_and_keep
        for name in ("get_fid", "interpolate_latent_space", "save_plot"):
            if hasattr(train, name):
                setattr(train, name, self.logged if name == "get_fid" else lambda *a, **k: None)
        self.gen.dense.bias.register_hook(self.reached)  # called with every gradient of it
        parameters = inspect.signature(train.train_model).parameters
        more: dict = {"num_iterations": ITERATIONS, "batch_size": BATCH, "log_period": period}
        more |= {"gen_loss_fn": self.gen_loss, "disc_loss_fn": self.disc_loss}
        more |= {"prefix": "data_check/", "amp_enabled": False}
        if "images" in parameters:  # a program that takes them instead of a folder, and scores
            more["images"] = torch.full((10, 3, 32, 32), GREY, dtype=torch.uint8)
            more["options"] = handin.get("utils", "get_args")("", ["--fid", "off"])
        if all(one.kind is not one.VAR_KEYWORD for one in parameters.values()):
            more = {name: value for name, value in more.items() if name in parameters}
        (handin.folder / "data_check").mkdir(exist_ok=True)
        train.train_model(self.gen, self.disc, **more)

    def before_step(self, optimizer: torch.optim.Optimizer, *rest: Any) -> None:
        """What a step of the discriminator's optimizer goes by."""
        weight = self.disc.dense.weight
        if any(part is weight for group in optimizer.param_groups for part in group["params"]):
            self.taken.append(0.0 if weight.grad is None else weight.grad.item())

    def logged(self, *args: Any, **kwargs: Any) -> float:
        """In place of get_fid."""
        names = ("gen", "dataset_name", "dataset_resolution", "z_dimension", "batch_size")
        given = dict(zip((*names, "num_gen"), args, strict=False)) | kwargs
        self.fids.append((given.get("num_gen", 0), given.get("batch_size", 256)))
        return 100.0

    def reached(self, gradient: Tensor) -> None:
        """A gradient has come to the generator."""
        self.undetached += self.phase == "D"  # in its own step it should come


@check("gan", "1.2", f"{ITERATIONS}", "a shorter training", "see the loop", group="trace")
def iterations(handin: HandIn) -> Verdict:
    """exactly num_iterations iterations."""
    steps = len(handin.shared(Trace).sizes)
    if steps > ITERATIONS and steps % ITERATIONS == 0:
        return differs(
            f"{steps} discriminator steps for {ITERATIONS}: {steps // ITERATIONS} in each, where "
            "the handout counts a step of the discriminator as an iteration"
        )
    if steps > ITERATIONS:
        return differs(
            f"{steps} for {ITERATIONS}: the handout's loop looks at its limit only between epochs, "
            "so 30,000 become 30,033; break when it is reached, and log after counting"
        )
    return right() if steps == ITERATIONS else wrong(f"{steps} for {ITERATIONS}")


@check("gan", "1.2", group="trace")
def tail_batch(handin: HandIn) -> Verdict:
    """every batch of the discriminator has batch_size images."""
    for real, fakes in handin.shared(Trace).sizes:  # ten pictures in fours leave two
        if real != fakes:
            return differs(
                f"{real} real images beside {fakes} fakes: each mean is right, and the batch "
                "normalisation of the fakes sees another number than the data's"
            )
        if real != BATCH:
            return differs(
                f"batches of {BATCH} and {real}: the last of an epoch is smaller (11,780 birds in "
                "256s leave 4, which the generator's batch normalisation sees); drop_last=True"
            )
    return right()


@check("gan", "1.2", cost="another balance of the two, or noise for ever",
       mend="if iters % 5 == 0: zero_grad, backward and step of its own optimizer, of the scores "
       "of fakes that are not detached", group="trace")  # fmt: skip
def generator_steps(handin: HandIn) -> Verdict:
    """the generator steps at every fifth iteration, the 0th included."""
    trace = handin.shared(Trace)
    steps, count = trace.generator_steps, len(trace.sizes)
    if steps != math.ceil(count / 5):
        return wrong(f"{steps} generator steps in {count} iterations", f"{math.ceil(count / 5)}")
    if trace.gen.dense.bias.item() == 0:
        return wrong("the generator's weights do not move", "a step of its optimizer")
    return right()


@check("gan", "1.2", "a step by its own loss's gradient, for each",
       "the discriminator learns something else, or nothing",
       "zero_grad(), backward(), step() of the discriminator's own optimizer, in this order",
       group="trace")  # fmt: skip
def discriminator_steps(handin: HandIn) -> Verdict:
    """the discriminator steps by the gradient of its loss."""
    trace = handin.shared(Trace)
    if trace.others:
        return differs(ARGUMENTS)
    if len(trace.taken) != len(trace.due):
        return wrong(f"{len(trace.taken)} steps of its optimizer for {len(trace.due)} losses")
    for number, (got, due) in enumerate(zip(trace.taken, trace.due, strict=True)):
        if close(got, due, 1e-2):
            continue
        seen = f"step {number} goes by {got:.3f} where its loss has a slope of {due:.3f}"
        if close(got, -due, 1e-2):
            mend = "disc_loss_fn(discrim_real, discrim_fake, ...)"
            return wrong(f"{seen}: the fakes' scores are given as the real ones'", mend=mend)
        if 0 < got / due < 1:
            return differs(f"{seen}: clipped, or the loss has a factor")
        if got == 0:
            return wrong(f"{seen}: cleared after backward, or there was none")
        added = number > 0 and abs(got) > abs(due)
        return wrong(f"{seen}{': gradients of earlier steps are in it' * added}")
    return right()


@check("gan", "1.2", group="trace")
def detached(handin: HandIn) -> Verdict:
    """fakes are cut off from the generator in the discriminator's step."""
    trace = handin.shared(Trace)
    if not trace.undetached and not trace.mixed:
        return right()
    what = "the discriminator's loss" if trace.undetached else "x^, and with it the penalty,"
    return differs(
        f"{what} is differentiated through the generator too; the result is thrown away, and it "
        "costs about a third of the step: make the fakes under torch.no_grad()"
    )


@check("gan", "1.2", "float32 where autocast is off",
       "without autocast the run stops: a Half meets a Float",
       "leave the conversion to autocast", group="trace")  # fmt: skip
def full_precision(handin: HandIn) -> Verdict:
    """with --disable_amp no tensor is made float16."""
    handin.shared(Trace)  # the networks are stubs
    seen = "the loop makes tensors float16 by hand (.half() or dtype=torch.float16)"
    return wrong(seen) if handin.notes.half else right()


@check("gan", "1.2", cost="little within 30,000 iterations; the schedule ends at another time",
       mend="scheduler.step() after each optimizer's own step", group="trace")  # fmt: skip
def schedule_steps(handin: HandIn) -> Verdict | None:
    """both schedules step with their optimizers."""
    trace = handin.shared(Trace)
    if len(trace.schedulers) != 4 or not hasattr(trace.schedulers[1], "last_epoch"):
        return None
    got = tuple(int(trace.schedulers[index].last_epoch) for index in (1, 3))
    expected = len(trace.sizes), trace.generator_steps
    return right() if got == expected else wrong(f"schedules at {got}", f"{expected}, the steps")


@check("gan", "1.5", "eps x + (1 - eps) fake, eps in [0, 1]",
       "the penalty acts where it is not meant",
       "eps = torch.rand(len(real), 1, 1, 1), one number for an image (not randn, nor one for a "
       "pixel: rand_like)", group="trace")  # fmt: skip
def interpolates(handin: HandIn) -> Verdict:
    """interpolates lie between a real image and a fake."""
    trace = handin.shared(Trace)
    if trace.others:
        return differs(ARGUMENTS)
    if not trace.eps:
        raise NotThere("train_model gives its loss no interpolates: a TODO")
    eps = torch.cat(trace.eps)
    if eps.isnan().any() or eps.min() < -0.02 or eps.max() > 1.02:
        if all(abs(grey - trace.grey) > 0.02 for grey in trace.disc.greys):
            seen = f"real images of {trace.grey:.2f} reach the discriminator as another grey"
            cost = "real and generated images have different ranges"
            return wrong(seen, "as build_transforms gives them", cost, "scale there alone")
        outside = "" if eps.isnan().any() else f" (shares {eps.min():.2f} to {eps.max():.2f})"
        return wrong(f"interpolates off the line between the two images{outside}")
    if not all(trace.connected):
        mend = "interp.requires_grad_() before disc(interp), and that interp to the loss"
        return wrong("D(x^) has no gradient with respect to x^", "one", "no penalty", mend)
    if len({round(value, 5) for value in eps.tolist()}) == 1:  # over all seven steps
        return wrong(f"eps is {eps[0].item():.2f} throughout", "U(0, 1)")
    if all(shares.max() - shares.min() < 1e-4 for shares in trace.eps):
        return differs(
            "one eps for a whole batch; Algorithm 1 draws one per image, and one per batch makes "
            "the penalty noisier (the two best published scores have it so): torch.rand(B, 1, 1, 1)"
        )
    return right()


def _grid(handin: HandIn, pattern: str, what: str) -> tuple[Verdict, tuple]:
    """Of a picture with a dark and a light half in each image; and its height and width."""
    files = sorted(handin.folder.rglob(pattern))
    if not files:
        why = "on a clock of their own, or have another name: not looked into"
        raise Slip(differs(f"no {pattern} within two log periods: they come {why}"))
    pixels = np.asarray(Image.open(files[-1]).convert("RGB"), dtype=float)
    shape = pixels.shape[:2]
    if any((side - 2) % 34 and side != 320 for side in shape):
        size = f"{shape[1]} x {shape[0]} pixels"
        raise Slip(differs(f"a picture of {size}, no grid of torchvision's: not looked into"))
    # Inside the first image, on its left and on its right half.
    dark, light = pixels[18, 2 + 4].mean(), pixels[18, 2 + 27].mean()
    if close([dark, light], [0.25 * 255, 0.75 * 255], 0.02):
        return right(), shape
    seen = f"{what} of -0.5 and 0.5 are saved as {dark:.0f} and {light:.0f} of 255"
    if dark < 2 and close(light, 0.5 * 255, 0.03):
        seen += ": saved as they are, in [-1, 1], and whatever is below 0 is black"
    elif dark < 2 and light > 253:
        seen += ": stretched to their own range (normalize=True): contrast depends on it"
    return wrong(seen), shape


IN_RANGE = ("64 and 191", "the pictures do not show what the generator makes")
RESCALE = "(x + 1) / 2, clamped to [0, 1]"


@check("gan", "1.2", *IN_RANGE, RESCALE, old=("range",), group="logs")
def sample_range(handin: HandIn) -> Verdict:
    """sample grids are rescaled to [0, 1]."""
    handin.shared(Trace, True)
    verdict, shape = _grid(handin, "samples_*.png", "samples")
    if verdict.word != "right" or shape == (342, 342):
        return verdict
    count = (shape[0] // 34) * (shape[1] // 34)
    batch = ", as many as a batch has" if count == BATCH else ""
    return differs(f"a picture of {count} images{batch}: the handout's has 100, 10 a row")


@check("gan", "1.2", group="logs")
def score_counts(handin: HandIn) -> Verdict | None:
    """scores: 10,000 images at a log line, 50,000 at the end."""
    trace = handin.shared(Trace, True)
    if not hasattr(trace.train, "get_fid"):
        return None
    if not trace.fids:
        return differs("no score within two log periods: on a clock of its own, not looked into")
    counts, remarks = [count for count, _ in trace.fids], []
    if counts[-1:] != [50_000] or {*counts[:-1]} != {10_000}:
        shown = ", ".join(f"{count:,}" for count in counts)
        remarks.append(f"{shown}; the reference numbers are of 50,000: a score falls with them")
    if others := {batch for _, batch in trace.fids} - {256}:
        batches = ", ".join(str(n) if n != BATCH else "batch_size" for n in sorted(others))
        remarks.append(f"in batches of {batches}, whose statistics normalise them: 256 elsewhere")
    if 0 < len(counts) - 1 < ITERATIONS // PERIOD:
        remarks.append(f"{len(counts) - 1} scores for {ITERATIONS // PERIOD} log periods")
    return remarked(remarks)


# ------------------------------------------------------------------------------------------------
# Interpolation and FID


def _latent_grid(handin: HandIn, saved: bool = False) -> Tensor:
    """The latents that interpolate_latent_space draws, to grid.png."""
    gen = StubGenerator().eval()
    path = str(handin.folder / "grid.png")
    z = torch.randn(1, LATENT_DIM).repeat(100, 1)
    try:
        call(handin.get("utils", "interpolate_latent_space"), gen=gen, path=path, fixed_noise=z)
    except Exception:  # in saving them: that is another row's
        if not gen.given or saved:
            raise
    if not gen.given:
        raise NotThere("interpolate_latent_space draws nothing: a TODO")
    if gen.own:
        seen = "the latents do not reach the generator: gen(n) draws its own"
        raise Slip(wrong(seen, mend="gen.forward_given_samples(z)"))
    return torch.cat([z.reshape(-1, LATENT_DIM) for z in gen.given])


@check("gan", "1.2",
       "100 latents: all pairs of 10 values from -1 to 1 in the first two dimensions",
       "another picture than asked for",
       "torch.cartesian_prod(torch.linspace(-1, 1, 10), torch.linspace(-1, 1, 10))")  # fmt: skip
def interpolation_grid(handin: HandIn) -> Verdict:
    """the interpolation varies the first two dimensions from -1 to 1."""
    z = _latent_grid(handin)
    if len(z) != 100:
        return wrong(f"{len(z)} latents")
    steps = torch.linspace(-1, 1, 10).tolist()
    pairs = {(round(a, 3), round(b, 3)) for a, b in z[:, :2].tolist()}  # in whatever order
    if (z[:, 2:] - z[:1, 2:]).abs().max() > 1e-6:
        seen = "the other 126 dimensions are not the same in all 100"
        mend = "z = torch.zeros(100, 128); z[:, :2] = the grid (or one latent, repeated)"
        return wrong(seen, "fixed ones", "the grid shows more than two dimensions", mend)
    if pairs != {(round(a, 3), round(b, 3)) for a in steps for b in steps}:
        low, high = z[:, :2].min().item(), z[:, :2].max().item()
        alone = ", the diagonal alone" * all(a == b for a, b in pairs)
        return wrong(f"{len(pairs)} different pairs between {low:.2f} and {high:.2f}{alone}")
    return right()


@check("gan", "1.2", *IN_RANGE, RESCALE, old=("range",))
def interpolation_picture(handin: HandIn) -> Verdict:
    """the interpolation is one picture, 10 a row, in [0, 1]."""
    _latent_grid(handin, saved=True)
    verdict, shape = _grid(handin, "grid.png*", "pixels")
    if verdict.word != "right" or shape in ((342, 342), (320, 320)):  # with and without frames
        return verdict
    return differs(f"a picture of {shape[1]} x {shape[0]} pixels: not 10 rows of 10 (nrow=10)")


@check("gan", "1.2", "63.75 and 191.25", "a score of other pictures", "(x / 2 + 0.5) * 255")
def fid_images(handin: HandIn) -> Verdict:
    """what reaches FID: images in [0, 255]."""
    gen, notes = StubGenerator(), handin.notes
    handin.get("utils", "get_fid")(gen, "cub", 32, LATENT_DIM, 256, 300)
    if notes.fid:  # by the function that is given to clean-fid
        asked = notes.fid[-1]
        if asked.get("gen") is None:
            return differs("of pictures that it writes to a folder: not looked into")
        if asked.get("num_gen") != 300:
            return wrong(f"num_gen {asked.get('num_gen')}", "300, as asked", mend="pass num_gen on")
        given = len(gen.given)
        made = shaped(asked["gen"](torch.randn(4, LATENT_DIM)), 4, 3, 32, 32).float()
        if len(gen.given) == given:
            raise NotThere("the function for clean-fid does not use forward_given_samples(z)")
        values = [made[:, :, :, 4].mean().item(), made[:, :, :, 27].mean().item()]
    elif notes.features:  # by what reaches its network
        every = torch.cat(notes.features)  # the data are grey, fakes have two halves
        fakes = shaped(every[(every[:, 0, 0, 0] - every[:, 0, 0, 3]).abs() > 0.1], 300, 3, 4, 4)
        values = [fakes[:, :, :, 0].mean().item(), fakes[:, :, :, 3].mean().item()]
    else:
        raise NotThere("get_fid calls neither clean-fid's compute_fid nor its network")
    seen = f"pixels of -0.5 and 0.5 reach it as {values[0]:.4g} and {values[1]:.4g}"
    if close(values, [63, 191]):
        return differs(f"{seen}: rounded down, half a grey level darker on average")
    return right() if close(values, [63.75, 191.25], 0.01) else wrong(seen)


# ------------------------------------------------------------------------------------------------
# 1.3 to 1.5: the losses

SCORES = torch.tensor([[0.7], [-1.3], [2.1], [0.2]]), torch.tensor([[-0.4], [1.6], [-2.2], [0.9]])
# The questions' files by another name: what a name of that kind has in it.
OTHER_NAMES = {"q1_4": r"ls|least", "q1_5": r"wg|w_g|wasser", "q1_3": r"gan|1_?3"}


def _losses(handin: HandIn, question: str) -> types.ModuleType:
    names, module = ("compute_discriminator_loss", "compute_generator_loss"), question
    if not (handin.folder / f"{question}.py").is_file():
        for path in sorted(handin.folder.glob("*.py"), reverse=True):
            kinds = [q for q, words in OTHER_NAMES.items() if re.search(words, path.stem.lower())]
            text = path.read_text(errors="replace")
            if kinds[:1] == [question] and all(f"def {name}(" in text for name in names):
                module = path.stem
    found = handin.module(module)
    for name in names:
        if not hasattr(found, name):
            raise NotThere(f"{module}.py has no {name}")
    return found


def _value(loss: Any) -> float:
    loss = torch.as_tensor(need(loss, "the loss"))
    if loss.numel() != 1:
        seen = f"a loss of shape {tuple(loss.shape)}: a number per image"
        raise Slip(wrong(seen, "one number", "backward() refuses it", "a mean over the batch"))
    return float(loss.detach().float().reshape(-1)[0])


def disc_loss(module: Any, real: Tensor, fake: Tensor, slope: Tensor | None = None) -> Any:
    """compute_discriminator_loss, with a D whose gradient is `slope` (B, 3, 4, 4) everywhere.

    Some losses take D and the images, and make the interpolates themselves.
    """
    count = len(real)
    slope = torch.full((count, 3, 4, 4), 1 / math.sqrt(48)) if slope is None else slope
    interp = torch.full((count, 3, 4, 4), 0.5, requires_grad=True)  # small: size is no subject

    def disc(x: Tensor) -> Tensor:
        return (slope * x).sum((1, 2, 3)).unsqueeze(1)

    scores = {"discrim_real": real, "discrim_fake": fake, "discrim_interp": disc(interp)}
    fakes = torch.ones(count, 3, 4, 4, requires_grad=True)  # as a generator's are
    others: dict = {"real": torch.zeros(count, 3, 4, 4), "fake": fakes, "disc": disc}
    function = module.compute_discriminator_loss
    names = {*inspect.signature(function).parameters}
    if names <= {"args", "kwargs"}:  # of a decorator
        return function(*scores.values(), interp, 10)
    if "disc" not in names:
        others = {"real": real, "fake": fake}  # scores by a shorter name
    elif not {"discrim_real", "discrim_fake"} <= names:
        raise Slip(differs("it takes D and the images instead of scores: not looked into"))
    return call(function, **scores, interp=interp, lamb=10, **others)


def _disc_loss(handin: HandIn, module: str, *scores: Tensor) -> float:
    """Its value; negative where it is maximised, as the papers write it."""
    sign = 1
    with contextlib.suppress(Exception):
        sign -= 2 * bool(_optimizers(handin)[1]["discriminator"].defaults.get("maximize"))
    return sign * _value(disc_loss(_losses(handin, module), *scores))


def _gen_loss(handin: HandIn, module: str) -> float:
    return _value(_losses(handin, module).compute_generator_loss(SCORES[1]))


def _softplus(real: Tensor, fake: Tensor) -> float:
    """-E[log D(x)] - E[log(1 - D(G(z)))] of scores."""
    return F.softplus(-real).mean().item() + F.softplus(fake).mean().item()


@check("gan", "1.3", cost="the two players do not play the game of the paper",
       mend="binary_cross_entropy_with_logits with ones for real scores and zeros for fake "
       "ones")  # fmt: skip
def gan_discriminator(handin: HandIn) -> Verdict:
    """the GAN's discriminator loss."""
    got, expected = _disc_loss(handin, "q1_3", *SCORES), _softplus(*SCORES)
    doubled = _softplus(*(scores.sigmoid() for scores in SCORES))
    sigmoid = ": a sigmoid before a loss that takes logits"
    slips = [(_softplus(*(-scores for scores in SCORES)), ": the labels are swapped", "")]
    slips += [(doubled, sigmoid, ""), (doubled / 2, sigmoid, "")]
    legit = [(expected / 2, "the mean of the two terms instead of their sum: the same to Adam")]
    return nearest(got, expected, legit, slips, "", "-E[log D(x)] - E[log(1 - D(G(z)))] = ")


@check("gan", "1.3", cost="the generator has another aim",
       mend="binary_cross_entropy_with_logits of the fake scores with ones")  # fmt: skip
def gan_generator(handin: HandIn) -> Verdict:
    """the GAN's generator loss does not saturate."""
    fake, got = SCORES[1], _gen_loss(handin, "q1_3")
    saturating = "Algorithm 1's own E[log(1 - D(G(z)))], whose gradient vanishes where the "
    saturating += "generator is bad: section 3 of the paper advises -E[log D(G(z))]"
    legit = [(-F.softplus(fake).mean().item(), saturating)]
    return nearest(got, F.softplus(-fake).mean().item(), legit, [], "", "-E[log D(G(z))] = ")


@check("gan", "1.3", "finite values and gradients", "one sure score ends the run with NaN",
       "the loss on logits: binary_cross_entropy_with_logits or softplus")  # fmt: skip
def gan_huge(handin: HandIn) -> Verdict:
    """the GAN's losses are finite for huge scores."""
    module, bad = _losses(handin, "q1_3"), []
    for sign in (1, -1):
        scores = torch.full((2, 1), 1000.0 * sign, requires_grad=True)
        loss = disc_loss(module, scores, -scores)
        total = need(loss, "the loss") + need(module.compute_generator_loss(scores), "the loss")
        (gradient,) = torch.autograd.grad(total.sum(), scores)
        if not math.isfinite(_value(total)) or not torch.isfinite(gradient).all():
            bad.append(1000 * sign)
    return wrong(f"not finite at scores of {bad}") if bad else right()


FIRST_CHOICE = "targets 1 for real and -1 for fake images: the paper's first choice"
FACTORS = (1, 2, 0.5)  # the same to Adam


def _scaled(value: float) -> list[tuple[float, str]]:
    return [
        (factor * value, f"{factor:g} times equation (2): the same to Adam") for factor in FACTORS
    ]


@check("gan", "1.4", cost="another game than that of equation (2)",
       mend="0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake ** 2).mean()")  # fmt: skip
def lsgan_discriminator(handin: HandIn) -> Verdict:
    """LSGAN's discriminator loss."""
    (real, fake), got = SCORES, _disc_loss(handin, "q1_4", *SCORES)
    one = 0.5 * (real - 1).square().mean().item()
    # Equation (2) with a = 0, b = 1; the factor does not matter.
    of_target = {a: one + 0.5 * (fake - a).square().mean().item() for a in (0, 1, -1)}
    legit = _scaled(of_target[0]) + [(factor * of_target[-1], FIRST_CHOICE) for factor in FACTORS]
    why = ": fakes have the target 1, so both kinds of image should score 1"
    cost = "the generator gets no signal, or a wrong one"
    slips = [(factor * of_target[1], why, cost) for factor in FACTORS]
    return nearest(got, of_target[0], legit, slips)


@check("gan", "1.4", cost="the generator has another aim", mend="0.5 * ((fake - 1) ** 2).mean()")
def lsgan_generator(handin: HandIn) -> Verdict:
    """LSGAN's generator loss."""
    fake, got = SCORES[1], _gen_loss(handin, "q1_4")
    zero = [factor * 0.5 * fake.square().mean().item() for factor in FACTORS]
    if any(close(got, value) for value in zero):
        if lsgan_discriminator(handin).sentence == FIRST_CHOICE:
            return differs("target 0, beside -1 and 1 in the other loss: as the paper has it")
    why = ": the target is 0, which is the fakes' in the other loss"
    slips = [(value, why, "the generator is paid for fakes that are found out") for value in zero]
    expected = 0.5 * (fake - 1).square().mean().item()  # equation (2) with c = 1
    return nearest(got, expected, _scaled(expected), slips)


def _slope(norms: list[float]) -> Tensor:
    """(B, 3, 4, 4), of these norms per image."""
    rng = torch.Generator().manual_seed(0)
    slope = torch.randn(len(norms), 3, 4, 4, generator=rng)  # so that no axis is like another
    size = slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return slope / size * torch.tensor(norms).view(-1, 1, 1, 1)


@check("gan", "1.5", cost="it is not WGAN", mend="fake.mean() - real.mean(), and -fake.mean()")
def wgan(handin: HandIn) -> Verdict:
    """WGAN's losses without the penalty."""
    (real, fake), zero = SCORES, torch.zeros(4, 1)  # every gradient has norm 1
    # Less what scores of zero leave: the penalty, whatever it is.
    got = _disc_loss(handin, "q1_5", real, fake) - _disc_loss(handin, "q1_5", zero, zero)
    expected, bce = (fake.mean() - real.mean()).item(), _softplus(real, fake) - 2 * math.log(2)
    why = ": the cross-entropy of question 1.3, not WGAN's loss"
    slips = [(bce, why, ""), (bce / 2, why, "")]
    slips += [(-expected, ": the sign is reversed, so the critic prefers fakes", "")]
    verdict = nearest(got, expected, [], slips, "the discriminator's ")
    aim = -fake.mean().item()
    generator = nearest(_gen_loss(handin, "q1_5"), aim, [], [], "the generator's ")
    return generator if verdict.word == "right" else verdict


@check("gan", "1.5", cost="another constraint than the paper's",
       mend="norm = gradient.flatten(1).norm(dim=1), then lamb * ((norm - 1) ** 2).mean()"
       )  # fmt: skip
def penalty_norm(handin: HandIn) -> Verdict:
    """the penalty's norm is per image, over channels and pixels."""
    norms, zero = [0.5, 2.0, 1.0, 3.0], torch.zeros(4, 1)
    slope = _slope(norms)
    # Scores of zero leave the penalty, and in a cross-entropy 2 log 2: the flat case removes that.
    got, flat = (_disc_loss(handin, "q1_5", zero, zero, s) for s in (slope, _slope([1.0] * 4)))

    def mean(function: Callable) -> float:
        return 10 * sum(map(function, norms)) / 4

    expected = mean(lambda norm: (norm - 1) ** 2)
    if close(got - flat, expected):
        return right()
    together, mean_norm = 10 * (math.hypot(*norms) - 1) ** 2, 10 * (sum(norms) / 4 - 1) ** 2
    whole = "at batch 256 norms of 1 are punished with 225, and each image is driven to 1/16"
    of_scores = "the critic's values are held near 1, and its slope is free"
    per_pixel = "each pixel's gradient is driven to norm 1, an image's to 32 instead of 1"
    images, pixels = (0.5 * slope).sum((1, 2, 3)).abs(), slope.norm(dim=1)
    slips = [
        (together, ": one norm for the whole batch", whole),
        (together - 10 + flat, ": one norm for the whole batch", whole),
        *((mean_norm + n, ": the square of the mean instead of the mean of the squares",
           "norms of 0.5 and 1.5 cancel") for n in (0, flat)),
        (4 * expected, ": a sum over the batch", "its weight grows with the batch"),
        (expected / 10, ": without lambda", "a tenth of the weight"),
        (mean(lambda n: (n**2 - 1) ** 2), ": the squared norm, without its root", ""),
        (mean(lambda n: max(0, n - 1) ** 2), ": one-sided, small norms are free", ""),
        (10 * (images - 1).square().mean().item(), ": of the scores D(x^), not of their gradient",
         of_scores),
        *((n, ": no penalty at all", "the critic is not constrained") for n in (flat, 0.0)),
        (10 * (pixels - 1).square().mean().item(), ": one norm per pixel, over channels only "
         "(dim=1)", per_pixel),
    ]  # fmt: skip
    return nearest(got, expected, [], slips, "for norms 0.5, 2, 1, 3 a penalty of ")


def _weight_gradient(handin: HandIn, value: float) -> Tensor | None:
    """Of the penalty by D's weight, which is each component of D's gradient; None without one."""
    weight, zero = torch.tensor(value, requires_grad=True), torch.zeros(2, 1)
    loss = disc_loss(_losses(handin, "q1_5"), zero, zero, weight * torch.ones(2, 3, 4, 4))
    if not need(loss, "the loss").requires_grad:
        return None
    return torch.autograd.grad(loss.sum(), weight, allow_unused=True)[0]


@check("gan", "1.5", "d penalty / d weight", "the penalty is a number that nothing is trained by",
       "torch.autograd.grad(..., create_graph=True), and no detach of its result")  # fmt: skip
def penalty_gradient(handin: HandIn) -> Verdict:
    """the penalty's gradient reaches the discriminator's weights."""
    gradient = _weight_gradient(handin, 3 / math.sqrt(48))
    return right() if gradient else wrong("no gradient at the weights")  # neither None nor 0


@check("gan", "1.5", "a finite one", "one image without a gradient turns every weight into NaN",
       "gradient.flatten(1).norm(dim=1) instead of sqrt of a sum (or add 1e-12 inside)"
       )  # fmt: skip
def penalty_at_zero(handin: HandIn) -> Verdict:
    """the penalty is finite where the gradient is 0."""
    gradient = _weight_gradient(handin, 0.0)  # the derivative of sqrt is infinite there
    if gradient is None or torch.isfinite(gradient).all():
        return right()
    return wrong(f"a gradient of {gradient.item()}")


@check("gan", "1.3", "only WGAN-GP has a penalty", "another loss", "leave them out")
def no_interpolates(handin: HandIn) -> Verdict | None:
    """the losses of 1.3 and 1.4 leave the interpolates alone."""
    judged = False
    for name in ("q1_3", "q1_4"):
        with contextlib.suppress(Slip, NameError, TypeError):  # rows of their own
            module = _losses(handin, name)
            losses = [disc_loss(module, *SCORES, _slope([norm] * 4)) for norm in (1.0, 7.0)]
            got = [*map(_value, losses)]
            if not all(map(math.isfinite, got)):
                continue
            judged = True
            if not close(*got):
                return wrong(f"{name}'s loss depends on the interpolates")
    return right() if judged else None


def _script(handin: HandIn, question: str, asked: dict) -> Verdict:
    """What its `__main__` asks of train_model."""
    script = _losses(handin, question).__name__
    calls = handin.calls_of_main(script, "train_model")  # recorded, not run
    if not calls:
        raise NotThere(f"{script}.py does not call train_model")
    given = calls[-1]
    functions = [getattr(given.get(f"{net}_loss_fn"), "__name__", "") for net in ("gen", "disc")]
    if "discrim" in functions[0] and "gen" in functions[1]:
        seen = f"gen_loss_fn is {functions[0]}, disc_loss_fn {functions[1]}"
        return wrong(seen, "each its own", "neither network learns", "exchange the two")
    shown = {k: f"{v:,}" if isinstance(v, int | float) else repr(v) for k, v in given.items()}
    others = [f"{k} {shown[k]} instead of {v:,}" for k, v in asked.items() if given.get(k, v) != v]
    alike = not others or others[0].startswith("log")
    told = "" if alike else ": scores do not compare with the reference's"
    return remarked([f"{', '.join(others)}{told}"] * any(others))


for _number in (3, 4, 5):
    _asked = {"num_iterations": 30_000, "batch_size": 256, "log_period": 1000}
    _asked |= {"lamb": 10} if _number == 5 else {}
    _what = f"q1_{_number}.py asks for 30,000 iterations of 256, a log line every 1,000"
    check("gan", f"1.{_number}", name=f"script_1_{_number}",
          what=_what + ", lambda 10" * (_number == 5))(
        functools.partial(_script, question=f"q1_{_number}", asked=_asked)
    )  # fmt: skip
