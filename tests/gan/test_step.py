"""The lean steps do what the plain ones of the handout do, and touch only what they should."""

import penalty
import pytest
import q1_3
import q1_4
import q1_5
import torch
import train
from networks import Discriminator, Generator, frozen
from settings import Settings
from torch import nn
from train import Losses

from common import InputError
from common.device import Precision

FLOAT32 = Precision(torch.device("cpu"))
GAN, LSGAN, WGAN_GP = (
    Losses(q.compute_discriminator_loss, q.compute_generator_loss, q is q1_5)
    for q in (q1_3, q1_4, q1_5)
)
# A question's losses, and whether its penalty is the fast one.
WAYS = [(GAN, False), (LSGAN, False), (WGAN_GP, False), (WGAN_GP, True)]


@pytest.fixture
def batch():
    torch.manual_seed(0)
    real, z, eps = torch.rand(6, 3, 32, 32) * 2 - 1, torch.randn(6, 128), torch.rand(6, 1, 1, 1)
    return {"real": real, "z": z, "eps": eps, "z_gen": torch.randn(6, 128)}


def discriminator_step(gen, disc, batch, losses, fast=False):
    settings = Settings(fast_penalty=fast)
    parts = batch["real"], batch["z"], batch["eps"]
    return train.discriminator_step(gen, disc, parts, losses, settings, FLOAT32)


@pytest.fixture
def nets():
    torch.manual_seed(1)
    return Generator(), Discriminator()


def gradients(module):
    return torch.cat(
        [
            torch.zeros(p.numel()) if p.grad is None else p.grad.flatten()
            for p in module.parameters()
        ]
    )


def plain_discriminator_step(gen, disc, batch, loss_fn):
    """As the handout writes it: generator graph kept, three passes, interpolates for every loss."""
    fake = gen.forward_given_samples(batch["z"])
    interp = batch["eps"] * fake + (1 - batch["eps"]) * batch["real"]
    loss = loss_fn(disc(batch["real"]), disc(fake), disc(interp), interp, 10)
    loss.backward()
    return loss.detach()


def relative_error(got, expected):
    return float((got - expected).norm() / expected.norm())


@pytest.mark.parametrize("losses, fast", WAYS)
def test_discriminator_step_equals_the_plain_one(losses, fast, batch, nets):
    gen, disc = nets
    loss = plain_discriminator_step(gen, disc, batch, losses.discriminator)
    expected = gradients(disc)
    gen.zero_grad(), disc.zero_grad()
    terms = discriminator_step(gen, disc, batch, losses, fast)
    assert relative_error(gradients(disc), expected) < 1e-3  # a few ReLUs at 0 switch with rounding
    assert float(terms["discriminator_loss"]) == pytest.approx(float(loss), rel=1e-4)
    assert all(p.grad is None for p in gen.parameters())
    assert all(p.requires_grad for p in disc.parameters())


@pytest.mark.parametrize("losses", [GAN, LSGAN, WGAN_GP])
def test_generator_step_equals_the_plain_one(losses, batch, nets):
    gen, disc = nets
    losses.generator(disc(gen.forward_given_samples(batch["z_gen"]))).backward()
    expected = gradients(gen)
    gen.zero_grad(), disc.zero_grad()
    train.generator_step(gen, disc, batch["z_gen"], losses, FLOAT32)
    assert relative_error(gradients(gen), expected) < 1e-3
    assert all(p.grad is None and p.requires_grad for p in disc.parameters())


@pytest.mark.parametrize("losses, fast", WAYS)
def test_what_a_user_froze_stays_frozen(losses, fast, batch, nets):
    """And whatever raises in between."""
    gen, disc = nets
    first = disc.layers[0].requires_grad_(False)
    discriminator_step(gen, disc, batch, losses, fast)
    train.generator_step(gen, disc, batch["z_gen"], losses, FLOAT32)
    with pytest.raises(KeyError), frozen(disc):
        raise KeyError
    assert not any(p.requires_grad or p.grad is not None for p in first.parameters())
    assert all(p.requires_grad for p in disc.layers[1].parameters())


def count_images(disc):
    seen = []
    disc.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    return seen


@pytest.mark.parametrize(
    "losses, fast, passes",
    [
        (GAN, False, [12]),
        (LSGAN, False, [12]),
        (WGAN_GP, False, [12, 6]),
        (WGAN_GP, True, [12, 6, 6]),
    ],
)
def test_interpolates_only_where_the_loss_uses_them(losses, fast, passes, batch, nets):
    gen, disc = nets
    seen = count_images(disc)
    discriminator_step(gen, disc, batch, losses, fast)
    assert seen == passes


def test_the_penalty_that_one_reads_is_the_one_that_runs(batch, nets):
    """A loss gets x^ and its scores, and whatever it makes of them is what is differentiated."""
    gen, disc = nets
    calls = []

    def edited(discrim_real, discrim_fake, discrim_interp, interp, lamb):
        calls.append((discrim_interp.shape, interp, lamb))
        return 3 * discrim_interp.sum()

    terms = discriminator_step(gen, disc, batch, Losses(edited, q1_5.compute_generator_loss, True))
    assert calls[0][0] == (6, 1) and calls[0][2] == 10 and "gradient_penalty" not in terms
    with torch.no_grad():
        fake = gen.forward_given_samples(batch["z"])
    # eps is the share of the fake, per image
    expected = batch["eps"] * fake + (1 - batch["eps"]) * batch["real"]
    torch.testing.assert_close(calls[0][1].detach(), expected, rtol=1e-3, atol=1e-3)
    got = gradients(disc)
    disc.zero_grad()
    (3 * disc(expected).sum()).backward()
    assert relative_error(gradients(disc), got) < 1e-3


# ------------------------------------------------------------------------------------------------
# The penalty without a second differentiation


def penalty_twice_differentiated(disc, interp, lamb):
    zero = torch.zeros(1, 1)
    x = interp.clone().requires_grad_()
    q1_5.compute_discriminator_loss(zero, zero, disc(x), x, lamb).backward()


def test_penalty_backward_equals_double_backward(batch, nets):
    _, disc = nets
    penalty_twice_differentiated(disc, batch["real"], 10)
    expected = gradients(disc)
    disc.zero_grad()
    value = penalty.penalty_backward(disc, batch["real"], 10)
    assert relative_error(gradients(disc), expected) < 1e-5
    x = batch["real"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(disc(x).sum(), x)
    assert float(value) == pytest.approx(
        float((gradient.flatten(1).norm(dim=1) - 1).square().mean()), rel=1e-5
    )
    assert not any(module._forward_hooks for module in disc.modules())


def test_penalty_backward_adds_to_what_is_there(batch, nets):
    _, disc = nets
    penalty.penalty_backward(disc, batch["real"], 10)
    once = gradients(disc)
    penalty.penalty_backward(disc, batch["real"], 10)
    torch.testing.assert_close(gradients(disc), 2 * once)


def test_penalty_of_a_critic_without_slope_is_1_and_pulls_nowhere():
    disc = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    nn.init.zeros_(disc[1].weight)
    assert float(penalty.penalty_backward(disc, torch.randn(2, 3, 2, 2), 10)) == 1.0
    assert torch.equal(disc[1].weight.grad, torch.zeros(1, 12))


class Silu(Discriminator):
    """An edit that no look at the modules would find."""

    def forward(self, x):
        return self.dense(nn.functional.silu(self.layers(x)).sum(dim=(2, 3)))


def one_sided_loss(discrim_real, discrim_fake, discrim_interp, interp, lamb):
    (gradient,) = torch.autograd.grad(discrim_interp.sum(), interp, create_graph=True)
    excess = (gradient.flatten(1).norm(dim=1) - 3).clamp(min=0)
    return discrim_fake.mean() + lamb * excess.square().mean()


def usual_one_sided_loss(discrim_real, discrim_fake, discrim_interp, interp, lamb):
    """Above norm 1 its gradient is that of the two-sided penalty."""
    (gradient,) = torch.autograd.grad(discrim_interp.sum(), interp, create_graph=True)
    excess = (gradient.flatten(1).norm(dim=1) - 1).clamp(min=0)
    return discrim_fake.mean() + lamb * excess.square().mean()


def steep():
    disc = Discriminator()
    with torch.no_grad():
        disc.dense.weight.mul_(20)
    return disc


def leaky():
    disc = Discriminator()
    disc.layers[4] = nn.LeakyReLU(0.2)
    return disc


def flat(activation):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), activation, nn.Linear(8, 1))


def compiled():
    disc = Discriminator()
    disc.compile(backend="eager")
    return disc


def wrapped():
    return torch.compile(Discriminator(), backend="eager")


@pytest.mark.parametrize(
    "make, loss_fn, holds",
    [
        (Discriminator, q1_5.compute_discriminator_loss, True),
        (lambda: flat(nn.ReLU()), q1_5.compute_discriminator_loss, True),
        (lambda: flat(nn.Tanh()), q1_5.compute_discriminator_loss, False),
        (leaky, q1_5.compute_discriminator_loss, False),
        (Silu, q1_5.compute_discriminator_loss, False),
        (compiled, q1_5.compute_discriminator_loss, False),
        (wrapped, q1_5.compute_discriminator_loss, False),
        (Discriminator, one_sided_loss, False),
        (Discriminator, usual_one_sided_loss, False),
        (steep, usual_one_sided_loss, False),
        (steep, q1_5.compute_discriminator_loss, True),
    ],
)
def test_the_fast_penalty_is_tried_before_it_is_used(make, loss_fn, holds, birds, batch, nets):
    torch.manual_seed(2)
    gen, disc = nets[0], make()
    before = torch.get_rng_state()
    losses = Losses(loss_fn, q1_5.compute_generator_loss, True)
    settings = Settings(batch_size=2, fast_penalty=True)
    if not holds:
        with pytest.raises(InputError, match="--fast_penalty: its gradient is not that"):
            train.Trainer(gen, disc, losses, birds, settings)
    else:
        train.Trainer(gen, disc, losses, birds, settings)
        plain_discriminator_step(gen, disc, batch, loss_fn)
        expected = gradients(disc)
        disc.zero_grad()
        discriminator_step(gen, disc, batch, losses, fast=True)
        assert relative_error(gradients(disc), expected) < 1e-3
        disc.zero_grad()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None and p.requires_grad for p in disc.parameters())


def test_a_loss_without_a_penalty_has_no_fast_one(birds, nets):
    with pytest.raises(InputError, match="--fast_penalty: this loss has no penalty"):
        train.Trainer(*nets, GAN, birds, Settings(batch_size=2, fast_penalty=True))


@pytest.mark.parametrize("fast", [False, True])
def test_float16_scales_gradients_and_keeps_the_penalty_in_float32(birds, nets, fast):
    settings = Settings(batch_size=2, fast_penalty=fast)
    trainer = train.Trainer(*nets, WGAN_GP, birds, settings, torch.float16)
    assert trainer.precision.scaler.is_enabled()
    with trainer.precision.wide():
        assert not torch.is_autocast_enabled("cpu")
    with trainer.precision():
        assert torch.get_autocast_dtype("cpu") == torch.float16
    trainer.iterate()
    trainer.check_finite()


# ------------------------------------------------------------------------------------------------
# An iteration


def parameters(module):
    return [p.detach().clone() for p in module.parameters()]


def changed(module, before):
    return [not torch.equal(p, old) for p, old in zip(module.parameters(), before)]


def test_an_iteration_moves_the_weights_as_adam_does(birds, nets):
    gen, disc = nets
    trainer = train.Trainer(gen, disc, GAN, birds, Settings(batch_size=4))
    before = parameters(disc), parameters(gen)
    trainer.iterate()
    assert all(changed(disc, before[0]))
    # Where Adam (2e-4, betas (0, 0.9)) starts, each weight moves by its rate against its gradient.
    for module, old in zip((disc, gen), before):
        for p, start in zip(module.parameters(), old):
            clear = p.grad.abs() > 1e-5
            assert clear.any() or p.ndim == 1
            step = -2e-4 * p.grad.sign()
            torch.testing.assert_close(
                (p.detach() - start)[clear], step[clear], rtol=1e-2, atol=1e-6
            )
    for _ in range(4):  # until the next generator step
        before = parameters(disc), parameters(gen)
        trainer.iterate()
        assert all(changed(disc, before[0])) and not any(changed(gen, before[1]))
    trainer.iterate()
    assert any(changed(gen, before[1]))


def test_what_an_iteration_draws(birds, nets, monkeypatch):
    """Fresh normal latents for either step, and a share of the fake for each image."""
    drawn = {"eps": [], "z": [], "z_gen": []}

    def discriminator_step(gen, disc, batch, *rest):
        drawn["z"].append(batch[1]), drawn["eps"].append(batch[2])
        return {}

    monkeypatch.setattr(train, "discriminator_step", discriminator_step)
    monkeypatch.setattr(
        train, "generator_step", lambda gen, disc, z, *rest: drawn["z_gen"].append(z) or {}
    )
    trainer = train.Trainer(*nets, LSGAN, birds, Settings(batch_size=32))
    for _ in range(20):
        trainer.iterate()
    assert [len(values) for values in drawn.values()] == [20, 20, 4]
    assert all(eps.shape == (32, 1, 1, 1) for eps in drawn["eps"])
    eps = torch.cat(drawn["eps"]).flatten()
    assert len(eps.unique()) > 600 and 0 <= eps.min() < 0.05 and 0.95 < eps.max() <= 1
    assert float(eps.mean()) == pytest.approx(0.5, abs=0.05)
    z = torch.cat([*drawn["z"], *drawn["z_gen"]])
    assert z.shape == (24 * 32, 128) and len(z[:, 0].unique()) == len(z)
    torch.testing.assert_close(
        torch.tensor([z.mean(), z.std(), (z.abs() < 1).float().mean()]),
        torch.tensor([0.0, 1.0, 0.6827]),
        atol=0.01,
        rtol=0,
    )


# ------------------------------------------------------------------------------------------------
# Optimizers, transforms


def test_optimizers_and_schedules(nets):
    optim_disc, sched_disc, optim_gen, sched_gen = train.get_optimizers_and_schedulers(*nets)
    for optimizer, module in ((optim_disc, nets[1]), (optim_gen, nets[0])):
        group = optimizer.param_groups[0]
        assert group["lr"] == 2e-4 and tuple(group["betas"]) == (0.0, 0.9)
        assert {id(p) for p in group["params"]} == {id(p) for p in module.parameters()}
    for scheduler, steps in ((sched_disc, 500_000), (sched_gen, 100_000)):
        rate = scheduler.lr_lambdas[0]
        assert [rate(0), rate(steps // 2), rate(steps), rate(2 * steps)] == [1.0, 0.5, 0.0, 0.0]


def test_rates_after_a_few_iterations(birds, nets):
    trainer = train.Trainer(*nets, LSGAN, birds, Settings(batch_size=2))
    for _ in range(6):  # generator steps in the 0th and the 5th
        trainer.iterate()
    assert trainer.sched_disc.get_last_lr()[0] == pytest.approx(2e-4 * (1 - 6 / 500_000), rel=1e-9)
    assert trainer.sched_gen.get_last_lr()[0] == pytest.approx(2e-4 * (1 - 2 / 100_000), rel=1e-9)
    assert (
        trainer.means.weights["generator_loss"] == 2
        and trainer.means.weights["discriminator_loss"] == 6
    )
    assert "gradient_penalty" not in trainer.means.means()


def test_transforms_and_device_batches_agree(birds):
    from dataset import to_signed
    from torchvision.transforms.functional import to_pil_image

    image = train.build_transforms()(to_pil_image(birds[0]))
    assert image.shape == (3, 32, 32)
    torch.testing.assert_close(image, to_signed(birds[:1])[0], rtol=0, atol=1e-6)
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    assert to_signed(black_and_white).flatten().tolist() == [-1.0, 1.0]
