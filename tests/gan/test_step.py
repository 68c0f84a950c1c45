"""The lean steps do what the plain ones of the handout do, and touch only what they should."""

from argparse import Namespace

import pytest
import q1_3
import q1_4
import q1_5
import torch
import train
from helpers import TINY, rows, start
from networks import Discriminator, Generator, frozen
from torch.testing import assert_close
from torchvision.transforms.functional import to_pil_image

from common.device import Precision

FLOAT32 = Precision(torch.device("cpu"))
QUESTIONS = [q1_3, q1_4, q1_5]


@pytest.fixture
def batch():
    torch.manual_seed(0)
    real, z, eps = torch.rand(3, 3, 32, 32) * 2 - 1, torch.randn(3, 128), torch.rand(3, 1, 1, 1)
    return {"real": real, "z": z, "eps": eps, "z_gen": torch.randn(3, 128)}


@pytest.fixture
def nets():
    torch.manual_seed(1)
    return Generator(), Discriminator()


def discriminator_step(gen, disc, batch, question, precision=FLOAT32):
    eps = None if question in (q1_3, q1_4) else batch["eps"]
    data, loss_fn = (batch["real"], batch["z"], eps), question.compute_discriminator_loss
    return train.discriminator_step(gen, disc, *data, loss_fn, 10, precision)


def generator_step(gen, disc, batch, question):
    loss_fn = question.compute_generator_loss
    return train.generator_step(gen, disc, batch["z_gen"], loss_fn, FLOAT32)


def gradients(module):
    parts = (torch.zeros_like(p) if p.grad is None else p.grad for p in module.parameters())
    return torch.cat([part.flatten() for part in parts])


def relative_error(got, expected):
    return float((got - expected).norm() / expected.norm())


@pytest.mark.parametrize("question", QUESTIONS)
def test_steps_equal_the_plain_ones(question, batch, nets):
    """As the handout writes it: generator graph kept, three passes, interpolates for every loss."""
    gen, disc = nets
    fake = gen.forward_given_samples(batch["z"])
    interp = batch["eps"] * fake + (1 - batch["eps"]) * batch["real"]
    scores = disc(batch["real"]), disc(fake), disc(interp)
    loss = question.compute_discriminator_loss(*scores, interp, 10)
    loss.backward()
    expected = gradients(disc)
    gen.zero_grad(), disc.zero_grad()
    passes = []
    hook = disc.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    terms = discriminator_step(gen, disc, batch, question)
    hook.remove()
    assert passes == ([6, 3] if question is q1_5 else [6])  # interpolates where the loss uses them
    assert relative_error(gradients(disc), expected) < 1e-3  # a few ReLUs at 0 switch with rounding
    assert float(terms["discriminator_loss"]) == pytest.approx(float(loss.detach()), rel=1e-4)
    assert all(p.grad is None for p in gen.parameters())
    assert all(p.requires_grad for p in disc.parameters())
    question.compute_generator_loss(disc(gen.forward_given_samples(batch["z_gen"]))).backward()
    expected = gradients(gen)
    gen.zero_grad(), disc.zero_grad()
    generator_step(gen, disc, batch, question)
    assert relative_error(gradients(gen), expected) < 1e-3
    assert all(p.grad is None and p.requires_grad for p in disc.parameters())


def test_norm_and_penalty_are_those_of_the_loss(batch, nets):
    gen, disc = nets
    terms = discriminator_step(gen, disc, batch, q1_5)
    with torch.no_grad():
        fake = gen.forward_given_samples(batch["z"])
    x = (batch["eps"] * fake + (1 - batch["eps"]) * batch["real"]).requires_grad_()
    norm = torch.autograd.grad(disc(x).sum(), x)[0].flatten(1).norm(dim=1)
    assert float(terms["gradient_norm"]) == pytest.approx(float(norm.mean()), rel=1e-3)
    penalty = float((norm - 1).square().mean())
    assert float(terms["gradient_penalty"]) == pytest.approx(penalty, rel=1e-2)
    whole = terms["fake_score"] - terms["real_score"] + 10 * terms["gradient_penalty"]
    assert_close(whole, terms["discriminator_loss"])
    of_scores = Namespace(compute_discriminator_loss=lambda r, f, scores, *rest: scores.mean())
    for question in (q1_3, of_scores):  # the slope that the loss takes, none of the backward pass
        assert "gradient_norm" not in discriminator_step(gen, disc, batch, question)


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_a_user_froze_stays_frozen(question, batch, nets):
    """And whatever raises in between."""
    gen, disc = nets
    first = disc.layers[0].requires_grad_(False)
    discriminator_step(gen, disc, batch, question)
    generator_step(gen, disc, batch, question)
    with pytest.raises(KeyError), frozen(disc):
        raise KeyError
    assert not any(p.requires_grad or p.grad is not None for p in first.parameters())
    assert all(p.requires_grad for p in disc.layers[1].parameters())


def test_float16_scales_gradients_and_keeps_the_penalty_in_float32(batch):
    """The range is what differs: D(x^) and its loss are float32, the two scores float16."""
    precision = Precision(torch.device("cpu"), torch.float16)
    assert precision.scaler.is_enabled()
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    torch.manual_seed(0)
    gen, disc = TINY[0](), TINY[1]()
    types = []
    disc.conv.register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    discriminator_step(gen, disc, batch, q1_5, precision)
    assert types == [torch.float16, torch.float32]
    scale, scaled = precision.scaler.get_scale(), gradients(disc)
    disc.zero_grad()
    discriminator_step(gen, disc, batch, q1_5)
    assert scale > 1 and relative_error(scaled / scale, gradients(disc)) < 1e-2


def test_an_iteration(birds, tmp_path, monkeypatch):
    """When the weights move, and what is drawn: for either step, and a share for each image."""
    discs, latents, weights = [], [], []
    steps = train.discriminator_step, train.generator_step

    def disc_step(gen, disc, *rest):
        weights.append([[p.detach().clone() for p in net.parameters()] for net in (gen, disc)])
        discs.append((gen.training, disc.training, *rest))
        return steps[0](gen, disc, *rest)

    gen_step = lambda gen, disc, z, *rest: latents.append(z) or steps[1](gen, disc, z, *rest)
    monkeypatch.setattr(train, "discriminator_step", disc_step)
    monkeypatch.setattr(train, "generator_step", gen_step)
    options = "--num_iterations 20 --batch_size 32 --log_period 100 --disable_amp".split()
    start(tmp_path / "run", birds, *options)
    assert len(discs) == 20 and len(latents) == 4
    assert all(gen_mode and disc_mode for gen_mode, disc_mode, *_ in discs)
    for n, (before, after) in enumerate(zip(weights, weights[1:])):
        moved = [any(not torch.equal(a, b) for a, b in zip(*pair)) for pair in zip(before, after)]
        assert moved == [n % 5 == 0, True]  # the generator in every fifth, the 0th among them
        rate = 2e-4 * (1 + 1e-3)  # Adam with beta1 = 0 moves a weight by its rate at the most
        first = max(float((a - b).abs().max()) for a, b in zip(before[1], after[1]))
        assert n > 0 or 0.5e-4 < first <= rate
    eps = torch.cat([step[4] for step in discs]).flatten()
    assert discs[0][4].shape == (32, 1, 1, 1)
    assert len(eps.unique()) > 600 and 0 <= eps.min() < 0.05 and 0.95 < eps.max() <= 1
    assert float(eps.mean()) == pytest.approx(0.5, abs=0.05)
    z = torch.cat([*(step[3] for step in discs), *latents])
    assert z.shape == (24 * 32, 128) and z.dtype == torch.float32
    assert len(z[:, 0].unique()) == len(z)
    moments = torch.stack([z.mean(), z.std(), (z.abs() < 1).float().mean()])
    assert_close(moments, torch.tensor([0.0, 1.0, 0.6827]), atol=0.01, rtol=0)
    known = {tuple(image.flatten().tolist()) for image in birds.float().div(127.5).sub(1)}
    assert all(tuple(image.flatten().tolist()) in known for image in discs[0][2])


def test_optimizers_and_schedules(nets, birds, tmp_path):
    optim_disc, sched_disc, optim_gen, sched_gen = train.get_optimizers_and_schedulers(*nets)
    for optimizer, module in ((optim_disc, nets[1]), (optim_gen, nets[0])):
        group = optimizer.param_groups[0]
        assert group["lr"] == 2e-4 and tuple(group["betas"]) == (0.0, 0.9)
        assert {id(p) for p in group["params"]} == {id(p) for p in module.parameters()}
    for scheduler, steps in ((sched_disc, 500_000), (sched_gen, 100_000)):
        rate = scheduler.lr_lambdas[0]
        assert [rate(0), rate(steps // 2), rate(steps), rate(2 * steps)] == [1.0, 0.5, 0.0, 0.0]
    start(tmp_path / "run", birds, "--log_period", 6, "--num_iterations", 6)
    (row,) = rows(tmp_path / "run")  # generator steps in the 0th and the 5th
    assert float(row["lr_discriminator"]) == pytest.approx(2e-4 * (1 - 6 / 500_000), rel=1e-9)
    assert float(row["lr_generator"]) == pytest.approx(2e-4 * (1 - 2 / 100_000), rel=1e-9)


def test_transforms_give_the_bits_of_x_over_127_5_minus_1():
    grey = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, 16, 16)
    image = train.build_transforms()(to_pil_image(grey))
    assert torch.equal(image, grey.float().div(127.5).sub(1))
