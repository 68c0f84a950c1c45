"""Reductions, KL divergence, reparameterisation and schedules, by hand-computed numbers."""

import inspect
import math
from dataclasses import replace

import losses
import pytest
import torch
import train
from settings import PRESETS, Settings, get_args
from torch import nn
from torch.distributions import Normal, kl_divergence

from common import InputError


class Constant(nn.Module):
    """An 'autoencoder' whose code and picture are known."""

    def __init__(self, code, pixel):
        super().__init__()
        self.code, self.pixel = code, pixel

    def encoder(self, x):
        return self.code

    def decoder(self, z):
        return torch.full((len(z), 3, 32, 32), self.pixel)


def test_ae_loss_sums_over_pixels_and_averages_over_the_batch():
    x = torch.zeros(4, 3, 32, 32)
    x[0] += 1  # errors 0.25 per pixel in one image and 0.25 in the others: (1 - 0.5)^2, (0 - 0.5)^2
    x[1] += 2  # and 2.25 in this one
    loss, terms = train.ae_loss(Constant(torch.zeros(4, 2), 0.5), x)
    assert float(loss) == 3072 * (0.25 * 3 + 2.25) / 4
    assert list(terms) == ["recon_loss"] and float(terms["recon_loss"]) == float(loss)


def test_vae_loss_is_recon_plus_beta_kl():
    mu, log_std = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.zeros(2, 2)
    x = torch.zeros(2, 3, 32, 32)
    for beta in (0, 0.8, 1):
        loss, terms = train.vae_loss(Constant((mu, log_std), 1.0), x, beta)
        assert list(terms) == ["recon_loss", "kl_loss"]
        assert float(terms["recon_loss"]) == 3072
        assert (
            float(terms["kl_loss"]) == (1 + 4) / 2 / 2
        )  # mu^2 / 2, summed over latents, mean over 2 images
        assert float(loss) == pytest.approx(3072 + beta * 1.25)


def test_kl_is_that_of_torch_distributions():
    torch.manual_seed(0)
    mu, log_std = torch.randn(5, 7), torch.randn(5, 7)
    expected = kl_divergence(Normal(mu, log_std.exp()), Normal(0.0, 1.0)).sum(dim=1).mean()
    torch.testing.assert_close(losses.kl_divergence(mu, log_std), expected)


@pytest.mark.parametrize("extreme", [-1000.0, -60.0, 40.0])
def test_kl_and_its_gradient_are_finite_for_extreme_log_std(extreme):
    log_std = torch.full((1, 2), extreme, requires_grad=True)
    loss = losses.kl_divergence(torch.zeros(1, 2), log_std)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(log_std.grad).all()
    if extreme < 0:
        assert float(loss.detach()) == pytest.approx(-2 * extreme - 1, rel=1e-6)


def test_reparameterisation_has_the_right_moments_and_gradients():
    mu = torch.tensor([1.0, -2.0]).expand(200_000, 2)
    log_std = torch.tensor([math.log(0.5), math.log(3.0)]).expand(200_000, 2)
    z = losses.reparameterise(mu, log_std, torch.Generator().manual_seed(0))
    torch.testing.assert_close(z.mean(0), mu[0], atol=0.03, rtol=0)
    torch.testing.assert_close(z.std(0), torch.tensor([0.5, 3.0]), rtol=0.01, atol=0)
    assert abs(torch.corrcoef(z.T)[0, 1]) < 0.01  # every latent has noise of its own
    mean = torch.zeros(1, 2, requires_grad=True)
    losses.reparameterise(mean, torch.zeros(1, 2)).sum().backward()
    assert mean.grad.tolist() == [[1.0, 1.0]]


def test_schedules():
    constant = train.constant_beta_scheduler(0.8)
    assert [constant(epoch) for epoch in (0, 10, 19)] == [0.8] * 3
    assert train.constant_beta_scheduler()(5) == 1
    linear = train.linear_beta_scheduler(20, 0.8)
    assert [linear(epoch) for epoch in (0, 10, 20, 30)] == [0.0, 0.4, 0.8, 0.8]
    assert train.linear_beta_scheduler(max_epochs=4)(1) == 0.25
    for bad in (None, 0):
        with pytest.raises(ValueError, match="max_epochs"):
            train.linear_beta_scheduler(bad)


def test_an_epoch_weighs_images_equally_and_clips():
    class Scale(Constant):
        def __init__(self):
            super().__init__(torch.zeros(1), 0.0)
            self.weight = nn.Parameter(torch.zeros(1))

        def encoder(self, x):
            return x

        def decoder(self, z):
            return z * 0 + self.weight

    model = Scale()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    batches = [(torch.zeros(3, 3, 2, 2) + 1, "anything"), (torch.zeros(1, 3, 2, 2) + 2, None)]
    means = train.run_train_epoch(model, "ae", batches, optimizer, grad_clip=0.5)
    assert means["recon_loss"] == 12 * (3 * 1 + 1 * 4) / 4
    assert float(model.weight.grad.norm()) == pytest.approx(0.5, rel=1e-4)
    optimizer.param_groups[0]["lr"] = 1.0  # the clipped gradient is the one that the step takes
    train.run_train_epoch(model, "ae", batches[:1], optimizer, grad_clip=0.5)
    assert float(model.weight.detach()) == pytest.approx(0.5, rel=1e-4)
    model.weight.data.zero_()
    means = train.get_val_metrics(model, "ae", batches)
    assert means["recon_loss"] == 12 * (3 * 1 + 1 * 4) / 4 == means["loss"]


def test_validation_draws_the_same_noise_and_leaves_no_trace():
    from model import AEModel

    torch.manual_seed(0)
    model = AEModel(True, 4)
    batches = [(torch.randn(5, 3, 32, 32), None)]
    state = torch.get_rng_state()
    first = train.get_val_metrics(model, "vae", batches)
    assert train.get_val_metrics(model, "vae", batches) == first
    assert torch.equal(torch.get_rng_state(), state) and model.training
    assert first["loss"] == pytest.approx(
        first["recon_loss"] + first["kl_loss"], rel=1e-6
    )  # beta 1


EXPECTED = {
    **{"loss_mode": "vae", "beta_mode": "constant", "num_epochs": 20, "batch_size": 256},
    **{"latent_size": 256, "target_beta_val": 1, "grad_clip": 1, "lr": 1e-3, "eval_interval": 5},
}


def test_defaults_are_the_assignments():
    """Those of the handout's main, of the settings, and of a run that the command line names."""
    defaults = {name: p.default for name, p in inspect.signature(train.main).parameters.items()}
    assert list(defaults)[1:10] == list(EXPECTED)  # in the handout's order, after log_dir
    assert {name: defaults[name] for name in EXPECTED} == EXPECTED
    assert {name: getattr(Settings(), name) for name in EXPECTED} == EXPECTED
    (run,) = get_args("", ["vae_latent1024"]).runs.items()
    assert run == ("vae_latent1024", Settings(latent_size=1024)) and run[1].seed == 0
    (own,) = get_args("", ["--log_dir", "mine", "--lr", "0.5"]).runs.items()
    assert own == ("mine", Settings(lr=0.5))


def test_presets_are_the_reports():
    assert len(PRESETS) == 9
    low, linear = Settings(latent_size=1024, target_beta_val=0.8), PRESETS["vae_latent1024"]
    assert PRESETS["vae_latent1024_beta_constant0.8"] == low != linear
    assert PRESETS["vae_latent1024_beta_linear1"] == replace(linear, beta_mode="linear")
    for name, settings in PRESETS.items():
        assert name.startswith(f"{settings.loss_mode}_latent{settings.latent_size}")
    (run,) = get_args("", ["vae_latent16", "--seed", "3", "--num_epochs", "2"]).runs.values()
    assert run == replace(PRESETS["vae_latent16"], seed=3) and run.num_epochs == 2


def test_two_settings_are_equal_where_a_run_can_go_on():
    base = Settings()
    for may_change in ({"num_epochs": 30}, {"eval_interval": 1}, {"patience": 3}):
        assert replace(base, **may_change) == base
    for may_not in ({"lr": 2e-3}, {"latent_size": 3}, {"seed": 1}, {"data": "abc"}, {"flows": 1}):
        assert replace(base, **may_not) != base
    linear = replace(base, beta_mode="linear")  # whose slope depends on the length
    assert replace(linear, num_epochs=30) != linear


@pytest.mark.parametrize(
    "values",
    [
        {"latent_size": 0},
        {"latent_size": 2.5},
        {"latent_size": True},
        {"flows": 10**9},
        {"lr": float("nan")},
        {"patience": 0},
        {"ratio": 0.0},
        {"dataset": "mnist"},
        {"seed": -1},
    ],
)
def test_settings_check_themselves(values):
    (name,) = values
    with pytest.raises(InputError, match=f"--{name}: got .*expected"):
        Settings(**values)
