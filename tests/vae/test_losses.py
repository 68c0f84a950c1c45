"""Reductions, KL divergence, reparameterisation and schedules, by hand-computed numbers."""

import inspect
import math
from collections import OrderedDict
from functools import partial

import losses
import pytest
import torch
import train
from flows import PlanarVAE, planar_vae_loss
from model import AEModel
from options import arguments_of, get_args
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
    x = torch.tensor([1.0, 2.0, 0.0, 0.0]).view(4, 1, 1, 1).expand(-1, 3, 32, 32)
    loss, terms = train.ae_loss(Constant(torch.zeros(4, 2), 0.5), x)
    # (1 - 0.5)^2, (2 - 0.5)^2, and (0 - 0.5)^2 twice
    assert float(loss) == 3072 * (0.25 * 3 + 2.25) / 4
    assert list(terms) == ["recon_loss"] and float(terms["recon_loss"]) == float(loss)


@pytest.mark.parametrize("beta", [0, 0.8, 1])
def test_vae_loss_is_recon_plus_beta_kl(beta):
    code = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.zeros(2, 2)
    loss, terms = train.vae_loss(Constant(code, 1.0), torch.zeros(2, 3, 32, 32), beta)
    # mu^2 / 2, summed over latents, mean over 2 images
    expected = {"recon_loss": 3072, "kl_loss": (1 + 4) / 2 / 2}
    assert {name: float(term) for name, term in terms.items()} == expected
    assert list(terms) == ["recon_loss", "kl_loss"]
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
    assert extreme > 0 or float(loss.detach()) == pytest.approx(-2 * extreme - 1, rel=1e-6)


def test_reparameterisation_has_the_right_moments_and_gradients():
    mu = torch.tensor([1.0, -2.0]).expand(200_000, 2)
    log_std = torch.tensor([math.log(0.5), math.log(3.0)]).expand(200_000, 2)
    torch.manual_seed(0)
    z = losses.reparameterise(mu, log_std)
    torch.testing.assert_close(z.mean(0), mu[0], atol=0.03, rtol=0)
    torch.testing.assert_close(z.std(0), torch.tensor([0.5, 3.0]), rtol=0.01, atol=0)
    assert abs(torch.corrcoef(z.T)[0, 1]) < 0.01  # every latent has noise of its own
    mean = torch.zeros(1, 2, requires_grad=True)
    losses.reparameterise(mean, torch.zeros(1, 2)).sum().backward()
    assert mean.grad.tolist() == [[1.0, 1.0]]


def test_schedules():
    constant, linear = train.constant_beta_scheduler(0.8), train.linear_beta_scheduler(20, 0.8)
    assert [constant(epoch) for epoch in (0, 10, 19)] == [0.8] * 3
    assert [linear(epoch) for epoch in (0, 10, 20, 30)] == [0.0, 0.4, 0.8, 0.8]
    assert train.constant_beta_scheduler()(5) == 1
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
    batches = [(torch.zeros(3, 3, 2, 2) + 1, "anything"), (torch.zeros(1, 3, 2, 2) + 0.25, None)]
    means = train.run_train_epoch(model, "ae", batches, optimizer, grad_clip=0.5)
    assert means["recon_loss"] == 12 * (3 * 1 + 0.25) / 4  # of 1 and -0.5
    assert float(model.weight.grad.norm()) == pytest.approx(0.5, rel=1e-4)
    optimizer.param_groups[0]["lr"] = 1.0  # the clipped gradient is the one that the step takes
    train.run_train_epoch(model, "ae", batches[:1], optimizer, grad_clip=0.5)
    assert float(model.weight.detach()) == pytest.approx(0.5, rel=1e-4)
    model.weight.data.zero_()
    means = train.get_val_metrics(model, "ae", batches)
    assert means["recon_loss"] == 12 * (3 * 1 + 0.25) / 4 == means["loss"]


def test_validation_draws_the_same_noise_and_leaves_no_trace():
    torch.manual_seed(0)
    model, batches = AEModel(True, 4), [(torch.rand(5, 3, 32, 32), None)]
    state = torch.get_rng_state()
    first = train.get_val_metrics(model, "vae", batches)
    assert torch.equal(torch.get_rng_state(), state) and model.training
    torch.rand(3)  # whatever was drawn before
    assert train.get_val_metrics(model, "vae", batches) == first
    whole = first["recon_loss"] + first["kl_loss"]
    assert first["loss"] == pytest.approx(whole, rel=1e-6)  # beta 1


EXPECTED = {
    **{"loss_mode": "vae", "beta_mode": "constant", "num_epochs": 20, "batch_size": 256},
    **{"latent_size": 256, "target_beta_val": 1, "grad_clip": 1, "lr": 1e-3, "eval_interval": 5},
}


def calls(*argv):
    """What main is called with, by the folders of the runs."""
    args = get_args("", argv)
    return {name: arguments_of(name, args) for name in args.runs}


def test_defaults_are_the_assignments():
    """Those of the handout's main, and of a run that the command line names."""
    defaults = {name: p.default for name, p in inspect.signature(train.main).parameters.items()}
    assert list(defaults)[1:10] == list(EXPECTED)  # in the handout's order, after log_dir
    assert {name: defaults[name] for name in EXPECTED} == EXPECTED
    ((name, (arguments, options)),) = calls("--log_dir", "mine", "--lr", "0.5").items()
    assert name == "mine" and arguments == EXPECTED | {"lr": 0.5, "base_channels": 128}
    assert options.seed == 0 and options.patience is None and not options.disable_amp


def test_presets_are_the_reports():
    every = calls("all")
    assert len(every) == 9
    own = {"constant0.8": {"target_beta_val": 0.8}, "constant1.2": {"target_beta_val": 1.2}}
    own["linear1"] = {"beta_mode": "linear"}
    for name, (arguments, _) in every.items():
        mode, latents, *beta = name.split("_")
        expected = EXPECTED | {"loss_mode": mode, "base_channels": 128}
        expected |= {"latent_size": int(latents.removeprefix("latent"))}
        assert arguments == expected | own.get(beta[-1] if beta else "", {}), name
    ((_, (arguments, options)),) = calls("vae_latent16", "--seed", "3", "--num_epochs", "2").items()
    assert options.seed == 3 and arguments["num_epochs"] == 2 and arguments["latent_size"] == 16


def test_functions_are_taken_where_names_are():
    model, x = Constant((torch.ones(2, 2), torch.zeros(2, 2)), 1.0), torch.zeros(2, 3, 32, 32)
    for function in (lambda m, x: 7, lambda m, x, beta: 7 * beta, lambda m, x, beta=1: 7 * beta):
        assert train.loss_function(function)(model, x, 1) == 7
    assert train.loss_function(lambda m, x, beta=1: beta)(model, x, 0.5) == 0.5
    assert train.loss_function("ae")(Constant(torch.zeros(2, 2), 1.0), x, 0.5)[0] == 3072
    with pytest.raises(InputError, match="loss_mode: got 'vea'"):
        train.loss_function("vea")


def test_an_epochs_beta_may_be_a_function_of_the_step():
    """Documented of run_train_epoch, with any loader: floats in [0, 1] become [-1, 1]."""
    seen, model = [], nn.Linear(1, 1)

    def loss(model, x, beta):
        seen.append((beta, float(x.min()), float(x.max())))
        return (model.weight * 0).sum(), OrderedDict()

    batches = [(torch.linspace(0, 1, 6).view(2, 3, 1, 1), None)] * 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    train.run_train_epoch(model, loss, batches, optimizer, lambda step: step / 10, first_step=5)
    assert seen == [(0.5, -1, 1), (0.6, -1, 1), (0.7, -1, 1)]
    train.get_val_metrics(model, loss, batches)
    assert seen[-1] == (1, -1, 1)
    with pytest.raises(InputError, match=r"images: got floats from -1 to 1, expected \[0, 1\]"):
        train.get_val_metrics(model, loss, [(torch.tensor([[[[-1.0, 1.0]]]]), None)])


FREE_BITS = partial(losses.free_bits_loss, free_bits=0.1)


@pytest.mark.parametrize("loss", [losses.vae_loss, planar_vae_loss, FREE_BITS])
def test_every_loss_heeds_beta_and_is_float32_under_autocast(loss):
    torch.manual_seed(0)
    model, x, totals = PlanarVAE(4, 2), torch.rand(4, 3, 32, 32), []
    nn.init.normal_(model.encoder.fc.bias)
    for beta in (0, 1, 3):
        torch.manual_seed(1)
        totals.append(float(loss(model, x, beta)[0].detach()))
    assert totals[1] != totals[0]
    assert totals[2] - totals[0] == pytest.approx(3 * (totals[1] - totals[0]), rel=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        total, terms = loss(model, x)
    assert {value.dtype for value in (total, *terms.values())} == {torch.float32}
