"""The lean steps do what the plain ones of the handout do, and touch only what they should."""

import contextlib

import penalty
import pytest
import q1_3
import q1_4
import q1_5
import torch
import train
from networks import Discriminator, Generator
from torch import nn

QUESTIONS = [q1_3, q1_4, q1_5]
plain = contextlib.nullcontext


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return {
        "real": torch.rand(6, 3, 32, 32) * 2 - 1, "z": torch.randn(6, 128),
        "eps": torch.rand(6, 1, 1, 1), "z_gen": torch.randn(6, 128),
    }  # fmt: skip


@pytest.fixture
def nets():
    torch.manual_seed(1)
    return Generator(), Discriminator()


def gradients(module):
    return torch.cat(
        [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in module.parameters()]
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


@pytest.mark.parametrize("question", QUESTIONS)
def test_discriminator_step_equals_the_plain_one(question, batch, nets):
    gen, disc = nets
    loss = plain_discriminator_step(gen, disc, batch, question.compute_discriminator_loss)
    expected = gradients(disc)
    gen.zero_grad(), disc.zero_grad()
    terms = train.discriminator_step(
        gen, disc, batch["real"], batch["z"], batch["eps"], question.compute_discriminator_loss, 10, plain,
        fast_penalty=True,
    )  # fmt: skip
    assert relative_error(gradients(disc), expected) < 1e-3  # a few ReLUs at 0 switch with rounding
    assert float(terms["discriminator_loss"]) == pytest.approx(float(loss), rel=1e-4)
    assert all(p.grad is None for p in gen.parameters())
    assert all(p.requires_grad for p in disc.parameters())


@pytest.mark.parametrize("question", QUESTIONS)
def test_generator_step_equals_the_plain_one(question, batch, nets):
    gen, disc = nets
    question.compute_generator_loss(disc(gen.forward_given_samples(batch["z_gen"]))).backward()
    expected = gradients(gen)
    gen.zero_grad(), disc.zero_grad()
    train.generator_step(gen, disc, batch["z_gen"], question.compute_generator_loss, plain)
    assert relative_error(gradients(gen), expected) < 1e-3
    assert all(p.grad is None for p in disc.parameters()) and all(p.requires_grad for p in disc.parameters())


def count_images(disc):
    seen = []
    disc.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    return seen


@pytest.mark.parametrize("question, passes", [(q1_3, [12]), (q1_4, [12]), (q1_5, [12, 6, 6])])
def test_interpolates_only_where_the_loss_uses_them(question, passes, batch, nets):
    gen, disc = nets
    seen = count_images(disc)
    train.discriminator_step(
        gen, disc, batch["real"], batch["z"], batch["eps"], question.compute_discriminator_loss, 10, plain,
        fast_penalty=True,
    )  # fmt: skip
    assert seen == passes


def test_a_loss_that_says_nothing_gets_interpolates_and_scores(batch, nets):
    gen, disc = nets
    calls = []

    def unknown_loss(discrim_real, discrim_fake, discrim_interp, interp, lamb):
        calls.append((discrim_interp.shape, interp))
        return q1_5.compute_discriminator_loss(discrim_real, discrim_fake, discrim_interp, interp, lamb)

    train.discriminator_step(gen, disc, batch["real"], batch["z"], batch["eps"], unknown_loss, 10, plain)
    assert calls[0][0] == (6, 1)
    with torch.no_grad():
        fake = gen.forward_given_samples(batch["z"])
    expected = (
        batch["eps"] * fake + (1 - batch["eps"]) * batch["real"]
    )  # eps is the share of the fake, per image
    torch.testing.assert_close(calls[0][1].detach(), expected, rtol=1e-3, atol=1e-3)
    got = gradients(disc)
    disc.zero_grad()
    train.discriminator_step(
        gen, disc, batch["real"], batch["z"], batch["eps"], q1_5.compute_discriminator_loss, 10, plain
    )
    assert relative_error(gradients(disc), got) < 1e-4  # not fast: the same arithmetic


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
    return discrim_fake.mean() + lamb * (gradient.flatten(1).norm(dim=1) - 3).clamp(min=0).square().mean()


one_sided_loss.interpolates = "gradient penalty"


def usual_one_sided_loss(discrim_real, discrim_fake, discrim_interp, interp, lamb):
    """Above norm 1 its gradient is that of the two-sided penalty."""
    (gradient,) = torch.autograd.grad(discrim_interp.sum(), interp, create_graph=True)
    return discrim_fake.mean() + lamb * (gradient.flatten(1).norm(dim=1) - 1).clamp(min=0).square().mean()


usual_one_sided_loss.interpolates = "gradient penalty"


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


@pytest.mark.parametrize(
    "make, loss_fn, fast",
    [
        (Discriminator, q1_5.compute_discriminator_loss, True),
        (lambda: flat(nn.ReLU()), q1_5.compute_discriminator_loss, True),
        (lambda: flat(nn.Tanh()), q1_5.compute_discriminator_loss, False),
        (leaky, q1_5.compute_discriminator_loss, False),
        (Silu, q1_5.compute_discriminator_loss, False),
        (Discriminator, one_sided_loss, False),
        (Discriminator, usual_one_sided_loss, False),
        (steep, usual_one_sided_loss, False),
        (steep, q1_5.compute_discriminator_loss, True),
        (Discriminator, q1_3.compute_discriminator_loss, False),
    ],
)
def test_the_fast_penalty_is_tried_before_it_is_trusted(make, loss_fn, fast, birds, batch, nets, capsys):
    torch.manual_seed(2)
    gen, disc = nets[0], make()
    before = torch.get_rng_state()
    trainer = train.Trainer(gen, disc, birds, 2, 10, q1_5.compute_generator_loss, loss_fn)
    assert trainer.fast_penalty == fast and torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None and p.requires_grad for p in disc.parameters())
    asked = loss_fn.interpolates == "gradient penalty"
    assert ("differentiated twice" in capsys.readouterr().out) == (asked and not fast)
    if asked:
        plain_discriminator_step(gen, disc, batch, loss_fn)
        expected = gradients(disc)
        disc.zero_grad()
        train.discriminator_step(
            gen,
            disc,
            batch["real"],
            batch["z"],
            batch["eps"],
            loss_fn,
            10,
            plain,
            fast_penalty=trainer.fast_penalty,
        )
        assert relative_error(gradients(disc), expected) < 1e-3


def test_float16_scales_gradients_and_keeps_the_penalty_in_float32(birds, nets):
    gen, disc = nets
    trainer = train.Trainer(
        gen, disc, birds, 2, 10, q1_5.compute_generator_loss, q1_5.compute_discriminator_loss, torch.float16
    )
    assert trainer.scaler.is_enabled()
    with trainer.penalty_precision():
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
    trainer = train.Trainer(
        gen, disc, birds, 4, 10, q1_3.compute_generator_loss, q1_3.compute_discriminator_loss
    )
    before = parameters(disc), parameters(gen)
    trainer.iterate()
    assert all(changed(disc, before[0]))
    # Where Adam (2e-4, betas (0, 0.9)) starts, each weight moves by its rate against its gradient's sign.
    for module, old in zip((disc, gen), before):
        for p, start in zip(module.parameters(), old):
            clear = p.grad.abs() > 1e-5
            assert clear.any() or p.ndim == 1
            step = -2e-4 * p.grad.sign()
            torch.testing.assert_close((p.detach() - start)[clear], step[clear], rtol=1e-2, atol=1e-6)
    for _ in range(4):  # until the next generator step
        before = parameters(disc), parameters(gen)
        trainer.iterate()
        assert all(changed(disc, before[0])) and not any(changed(gen, before[1]))
    trainer.iterate()
    assert any(changed(gen, before[1]))


def test_what_an_iteration_draws(birds, nets, monkeypatch):
    """Fresh normal latents for either step, and a share of the fake for each image."""
    drawn = {"eps": [], "z": [], "z_gen": []}

    def discriminator_step(gen, disc, real, z, eps, *rest):
        drawn["eps"].append(eps), drawn["z"].append(z)
        return {}

    monkeypatch.setattr(train, "discriminator_step", discriminator_step)
    monkeypatch.setattr(train, "generator_step", lambda gen, disc, z, *rest: drawn["z_gen"].append(z) or {})
    trainer = train.Trainer(
        *nets, birds, 32, 10, q1_4.compute_generator_loss, q1_4.compute_discriminator_loss
    )
    for _ in range(20):
        trainer.iterate()
    assert [len(values) for values in drawn.values()] == [20, 20, 4]
    assert all(eps.shape == (32, 1, 1, 1) for eps in drawn["eps"])
    eps = torch.cat(drawn["eps"]).flatten()
    assert len(eps.unique()) > 600 and 0 <= eps.min() < 0.05 and 0.95 < eps.max() <= 1
    assert float(eps.mean()) == pytest.approx(0.5, abs=0.05)
    z = torch.cat([*drawn["z"], *drawn["z_gen"]])
    assert z.shape == (24 * 32, 128) and len(z[:, 0].unique()) == len(z)
    torch.testing.assert_close(torch.tensor([z.mean(), z.std(), (z.abs() < 1).float().mean()]),
                               torch.tensor([0.0, 1.0, 0.6827]), atol=0.01, rtol=0)  # fmt: skip


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
    gen, disc = nets
    trainer = train.Trainer(
        gen, disc, birds, 2, 10, q1_4.compute_generator_loss, q1_4.compute_discriminator_loss
    )
    for _ in range(6):  # generator steps in the 0th and the 5th
        trainer.iterate()
    assert trainer.sched_disc.get_last_lr()[0] == pytest.approx(2e-4 * (1 - 6 / 500_000), rel=1e-9)
    assert trainer.sched_gen.get_last_lr()[0] == pytest.approx(2e-4 * (1 - 2 / 100_000), rel=1e-9)
    assert trainer.losses.weights["generator_loss"] == 2 and trainer.losses.weights["discriminator_loss"] == 6
    assert "gradient_penalty" not in trainer.losses.means()


def test_transforms_and_device_batches_agree(birds):
    from dataset import to_signed
    from torchvision.transforms.functional import to_pil_image

    image = train.build_transforms()(to_pil_image(birds[0]))
    assert image.shape == (3, 32, 32)
    torch.testing.assert_close(image, to_signed(birds[:1])[0], rtol=0, atol=1e-6)
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    assert to_signed(black_and_white).flatten().tolist() == [-1.0, 1.0]
