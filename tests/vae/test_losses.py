"""Networks, losses, flows, schedules, a run's arguments: by hand-computed numbers."""

import inspect
from argparse import Namespace
from collections import OrderedDict
from functools import partial

import losses
import pytest
import torch
import train
from flows import PlanarFlow, PlanarVAE, planar_vae_loss
from helpers import refused
from model import AEModel, Decoder, Encoder, VAEEncoder
from options import BETA_MODES, arguments_of, get_args
from schedules import anneal_beta_scheduler, beta_schedule, cyclical_beta_scheduler
from small_ae import SmallAE
from torch import nn
from torch.distributions import Normal, kl_divergence
from utils import count_active_latents

from common import InputError


def constant(code, pixel):
    """An 'autoencoder' whose code and picture are known."""
    decoder = lambda z: torch.full((len(z), 3, 32, 32), pixel)
    return Namespace(encoder=lambda x: code, decoder=decoder)


def test_ae_loss_sums_over_pixels_and_averages_over_the_batch():
    x = torch.tensor([1.0, 2.0, 0.0, 0.0]).view(4, 1, 1, 1).expand(-1, 3, 32, 32)
    loss, terms = train.ae_loss(constant(torch.zeros(4, 2), 0.5), x)
    # (1 - 0.5)^2, (2 - 0.5)^2, and (0 - 0.5)^2 twice
    assert float(loss) == 3072 * (0.25 * 3 + 2.25) / 4
    assert list(terms) == ["recon_loss"] and float(terms["recon_loss"]) == float(loss)


@pytest.mark.parametrize("beta", [0, 0.8, 1])
def test_vae_loss_is_recon_plus_beta_kl(beta):
    """The KL divergence is that of torch.distributions."""
    torch.manual_seed(0)
    mu, log_std = torch.randn(5, 7), torch.randn(5, 7)
    loss, terms = train.vae_loss(constant((mu, log_std), 1.0), torch.zeros(5, 3, 32, 32), beta)
    kl = kl_divergence(Normal(mu, log_std.exp()), Normal(0.0, 1.0)).sum(dim=1).mean()
    assert list(terms) == ["recon_loss", "kl_loss"] and terms["recon_loss"] == 3072
    torch.testing.assert_close(terms["kl_loss"], kl)
    torch.testing.assert_close(loss, 3072 + beta * kl)


@pytest.mark.parametrize("extreme", [-1000.0, -60.0, 40.0])
def test_kl_and_its_gradient_are_finite_for_extreme_log_std(extreme):
    log_std = torch.full((1, 2), extreme, requires_grad=True)
    loss = losses.kl_divergence(torch.zeros(1, 2), log_std)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(log_std.grad).all()
    assert extreme > 0 or float(loss.detach()) == pytest.approx(-2 * extreme - 1, rel=1e-6)


def test_reparameterisation_and_its_gradients_by_hand():
    mu, log_std = (torch.randn(5, 7, requires_grad=True) for _ in range(2))
    torch.manual_seed(0)
    z = losses.reparameterise(mu, log_std)
    noise = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(z, mu + log_std.exp() * noise)
    z.sum().backward()
    torch.testing.assert_close(log_std.grad, log_std.detach().exp() * noise)
    assert (mu.grad == 1).all()


def test_free_bits_by_hand():
    """Latent 0 has a mean KL of (0.5 + 0) / 2 = 0.25 nats, latent 1 of (2 + 8) / 2 = 5."""
    mu = torch.tensor([[1.0, 2.0], [0.0, 4.0]], requires_grad=True)
    model, x = constant((mu, torch.zeros(2, 2)), 0.0), torch.zeros(2, 3, 32, 32)
    loss, terms = losses.free_bits_loss(model, x, beta=2, free_bits=0.5)
    assert terms["kl_loss"].item() == 5.25 and terms["recon_loss"].item() == 0
    assert loss.item() == 2 * (0.5 + 5)
    loss.backward()
    assert mu.grad[:, 0].tolist() == [0, 0] and mu.grad[:, 1].tolist() == [2 * 2 / 2, 2 * 4 / 2]
    loss, _ = losses.free_bits_loss(model, x, free_bits=0.0)
    torch.testing.assert_close(loss, losses.kl_divergence(*model.encoder(x)))


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


def test_active_latents():
    """One of three means follows the image, one hardly, one not at all."""
    model, x = nn.Linear(1, 1), torch.zeros(200, 3, 2, 2)
    model.encoder = lambda x: [3 + x[:, :1, 0, 0] * torch.tensor([1, 0.1, 0])]
    x[:, 0, 0, 0] = torch.linspace(0, 1, 200)  # as a loader gives them; variance 0.34 in [-1, 1]
    assert count_active_latents(model, [(x[:150], None), (x[150:], None)]) == 1
    assert count_active_latents(model, [(x, None)], threshold=0.003) == 2 and model.training


# The assignment's networks and the small one, from their layer table
SHAPE = (3, 32, 32)
CONVS = (3 * 9 + 1) * 32 + (32 * 9 + 1) * 64 + (64 * 9 + 1) * 128 + (128 * 9 + 1) * 256
DECONVS = (128 * 16 + 1) * 128 + (128 * 16 + 1) * 64 + (64 * 16 + 1) * 32 + (32 * 9 + 1) * 3


@pytest.mark.parametrize("latents", [16, 128])
def test_parameter_counts(latents):
    head, wider = 4096 * latents + latents, 128 * 16 * 128 + 2048 * (latents + 1)
    for module, expected in (
        (Encoder(SHAPE, latents), CONVS + head),
        (VAEEncoder(SHAPE, latents), CONVS + 2 * head),
        (Decoder(latents, SHAPE), DECONVS + 2048 * latents + 2048),
        (Decoder(latents, SHAPE, 256), DECONVS + 2048 * latents + 2048 + wider),
        (SmallAE(), 10_147),
    ):
        assert sum(parameter.numel() for parameter in module.parameters()) == expected


KINDS = "Conv2d ReLU Conv2d ReLU Conv2d ReLU Conv2d".split()
KINDS += "ReLU ConvTranspose2d ReLU ConvTranspose2d ReLU ConvTranspose2d ReLU Conv2d".split()


def test_layers_and_that_images_do_not_mix_and_channels_last_survives():
    """Without the decoder's first ReLU the losses end below the published ones."""
    torch.manual_seed(0)
    model, seen = AEModel(False, 16).to(memory_format=torch.channels_last), []

    def keep(layer, inputs, output):
        assert output.is_contiguous(memory_format=torch.channels_last)
        seen.append((type(layer).__name__, tuple(output.shape[1:])))

    for layer in (*model.encoder.convs, *model.decoder.deconvs):
        layer.register_forward_hook(keep)
    x = torch.randn(4, *SHAPE).contiguous(memory_format=torch.channels_last)
    before = model.decoder(model.encoder(x))
    assert [kind for kind, _ in seen] == KINDS
    shapes = [shape for kind, shape in seen if kind != "ReLU"]
    assert shapes[:4] == [(32, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4)]
    assert shapes[4:] == [(128, 8, 8), (64, 16, 16), (32, 32, 32), (3, 32, 32)]
    x[2] += 10
    after, others = model.decoder(model.encoder(x)), torch.tensor([0, 1, 3])
    torch.testing.assert_close(after[others], before[others])
    assert (after[2] - before[2]).abs().max() > 1e-3


def test_the_first_half_of_the_head_is_the_mean():
    encoder = VAEEncoder(SHAPE, 4)
    torch.nn.init.zeros_(encoder.fc.weight)
    encoder.fc.bias.data = torch.arange(8.0)
    mu, log_std = encoder(torch.randn(1, *SHAPE))
    assert mu.tolist() == [[0, 1, 2, 3]] and log_std.tolist() == [[4, 5, 6, 7]]


def test_the_small_autoencoder_is_the_report_s():
    model, x = SmallAE(), torch.rand(2, 3, 32, 32) * 2 - 1
    shapes = [tuple(layer.weight.shape) for layer in model.modules() if hasattr(layer, "weight")]
    assert shapes == [(16, 3, 3, 3), (32, 16, 3, 3), (32, 16, 3, 3), (16, 3, 3, 3)]
    code = model.encoder(x)
    assert code.shape == (2, model.latent_size) and model.decoder(code).shape == x.shape
    assert model.decoder(1e4 * code).abs().max() <= 1


# Planar flows
def bent_flow(latent_size, seed=0):
    torch.manual_seed(seed)
    flow = PlanarFlow(latent_size).double()
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=1.5)
    return flow


@pytest.mark.parametrize("seed", range(3))
def test_log_det_is_that_of_the_jacobian(seed):
    flow, z = bent_flow(4, seed), torch.randn(6, 4, dtype=torch.float64)
    moved, log_det = flow(z)
    assert (moved - z).norm(dim=1).min() > 1e-3  # not the identity
    for point, value in zip(z, log_det):
        jacobian = torch.autograd.functional.jacobian(lambda one: flow(one[None])[0][0], point)
        torch.testing.assert_close(value, torch.linalg.slogdet(jacobian).logabsdet)


@pytest.mark.parametrize("size", [-200.0, -2.0, 0.0, 3.0])
def test_a_flow_is_invertible_whatever_u_is(size):
    """Along w it is increasing: w^T u^ >= -1; and nearly flat it stays finite in float32."""
    flow = bent_flow(3)
    with torch.no_grad():
        flow.u.copy_(size * flow.w / flow.w.square().sum())
        flow.b.zero_()
    steps = torch.linspace(-3, 3, 400, dtype=torch.float64)
    moved, log_det = flow(steps.unsqueeze(1) * flow.w.detach())
    assert ((moved @ flow.w).diff() >= -1e-12).all() and torch.isfinite(log_det).all()
    moved, log_det = flow.float()(torch.zeros(1, 3))  # h = 0: the slope alone
    (moved.sum() + log_det.sum()).backward()
    assert torch.isfinite(log_det).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in flow.parameters())


def test_a_flow_begins_as_the_identity_and_the_kl_term_is_exact_for_narrow_posteriors():
    """log q(z_0) comes from the noise: from z_0 - mu it would be lost to rounding."""
    torch.manual_seed(0)
    model, x, found = PlanarVAE(64, num_flows=1), torch.zeros(8, 3, 32, 32), []
    nn.init.zeros_(model.encoder.fc.weight)
    with torch.no_grad():
        model.encoder.fc.bias.copy_(torch.tensor([2.0, -18.0]).repeat_interleave(64))
    for loss in (planar_vae_loss, losses.vae_loss):
        torch.manual_seed(0)
        found.append(loss(model, x)[1])
    noise = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    expected = (18 - 0.5 * noise.square() + 0.5 * 4).sum(dim=1).mean()
    assert found[0]["kl_loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(found[0]["recon_loss"], found[1]["recon_loss"])
    assert list(found[0]) == ["recon_loss", "kl_loss"]


def test_the_kl_of_bent_flows_is_that_of_the_density():
    """log q(z_K) by the change of variables, in one dimension, against a numerical derivative."""
    torch.manual_seed(0)
    model = PlanarVAE(1, num_flows=1).double()
    flow = model.flows[0] = bent_flow(1, seed=3)
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64) * 2 - 1
    mu, log_std = (output.double() for output in model.encoder(x))
    torch.manual_seed(2)
    _, terms = planar_vae_loss(model, x)
    noise = torch.randn(1, 1, generator=torch.Generator().manual_seed(2)).double()
    z0, step = (mu + log_std.exp() * noise).detach(), 1e-6
    slope = (flow(z0 + step)[0] - flow(z0 - step)[0]) / (2 * step)
    log_q = Normal(mu, log_std.exp()).log_prob(z0) - slope.abs().log()
    expected = (log_q - Normal(0.0, 1.0).log_prob(flow(z0)[0])).squeeze().float()
    torch.testing.assert_close(terms["kl_loss"].float(), expected, rtol=1e-4, atol=1e-5)


def test_reconstructions_go_through_the_flows():
    torch.manual_seed(0)
    model, x = PlanarVAE(6, num_flows=2), torch.rand(3, 3, 32, 32) * 2 - 1
    for flow in model.flows:
        nn.init.normal_(flow.u, std=2.0)
    mu, _ = model.encoder(x)
    expected, without = (model.decoder(z) for z in (model.transform(mu)[0], mu))
    torch.testing.assert_close(losses.reconstruction(model, x), expected)
    assert not torch.allclose(expected, without, atol=1e-4)


# Schedules, epochs, arguments
def test_schedules_at_known_epochs_and_steps():
    constant, linear = train.constant_beta_scheduler, train.linear_beta_scheduler
    anneal, cyclical = anneal_beta_scheduler, cyclical_beta_scheduler
    options = Namespace(anneal_steps=100, cycles=2, ratio=0.5)
    by = {mode: beta_schedule(mode, 10, 1, 20, options) for mode in BETA_MODES}
    cycles = {0: 0, 25: 0.5, 50: 1, 100: 2, 199: 2, 200: 0, 250: 1, 650: 1, 799: 2}
    for schedule, expected in (
        (constant(0.8), {0: 0.8, 10: 0.8, 19: 0.8}),
        (constant(), {5: 1}),
        (linear(20, 0.8), {0: 0, 10: 0.4, 20: 0.8, 30: 0.8}),
        (linear(max_epochs=4), {1: 0.25}),
        (anneal(10_000, 0.8), {0: 0, 2_500: 0.2, 5_000: 0.4, 10_000: 0.8, 50_000: 0.8}),
        (cyclical(800, cycles=4, ratio=0.5, target_val=2), cycles),
        (cyclical(100, cycles=1, ratio=1), {50: 0.5}),
        (by["constant"], {0: 1, 9: 1}),
        (by["linear"], {0: 0, 5: 0.5}),
        *((by["anneal"](epoch), {50: 0.5}) for epoch in (0, 9)),  # a function of the step
        *((by["cyclical"](epoch), {125: 0.5}) for epoch in (0, 9)),  # half way up the second
    ):
        assert {at: schedule(at) for at in expected} == expected
    for bad in (None, 0):
        with pytest.raises(ValueError, match="linear_beta_scheduler: .*expected"):
            linear(bad)


def test_an_epoch_weighs_images_equally_and_clips():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)

    def loss(model, x):
        error = (model.weight - x).square().sum(dim=(1, 2, 3)).mean()
        return error, OrderedDict(recon_loss=error)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    batches = [(torch.zeros(3, 3, 2, 2) + 1, "anything"), (torch.zeros(1, 3, 2, 2) + 0.25, None)]
    means = train.run_train_epoch(model, loss, batches, optimizer)
    assert means == dict.fromkeys(("loss", "recon_loss"), 12 * (3 * 1 + 0.25) / 4)  # of 1 and -0.5
    assert train.get_val_metrics(model, loss, batches) == means
    optimizer.param_groups[0]["lr"] = 1.0
    train.run_train_epoch(model, loss, batches[:1], optimizer, grad_clip=0.5)
    assert float(model.weight.detach()) == pytest.approx(0.5, rel=1e-4)


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


def test_an_epochs_beta_may_be_a_function_of_the_step():
    """Documented of run_train_epoch, with any loader: floats in [0, 1] become [-1, 1]."""
    seen, model = [], nn.Linear(1, 1)
    loss = lambda m, x, beta: seen.append((beta, x.min(), x.max())) or (0 * m.weight.sum(), {})
    batches = [(torch.linspace(0, 1, 6).view(2, 3, 1, 1), None)] * 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    train.run_train_epoch(model, loss, batches, optimizer, lambda step: step / 10, first_step=5)
    train.get_val_metrics(model, loss, batches)
    assert seen == [(beta, -1, 1) for beta in (0.5, 0.6, 0.7, 1, 1, 1)]
    with pytest.raises(InputError, match=r"images: got floats from -1 to 1, expected \[0, 1\]"):
        train.get_val_metrics(model, loss, [(torch.tensor([[[[-1.0, 1.0]]]]), None)])


def test_functions_are_taken_where_names_are():
    model, x = constant((torch.ones(2, 2), torch.zeros(2, 2)), 1.0), torch.zeros(2, 3, 32, 32)
    for function in (lambda m, x: 7, lambda m, x, beta: 7 * beta, lambda m, x, beta=1: 7 * beta):
        assert train.loss_function(function)(model, x, 1) == 7
    assert train.loss_function(lambda m, x, beta=1: beta)(model, x, 0.5) == 0.5
    assert train.loss_function("ae")(constant(torch.zeros(2, 2), 1.0), x, 0.5)[0] == 3072
    refused("loss_mode: got 'vea'", train.loss_function, "vea")


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
    assert defaults | EXPECTED == defaults
    ((name, (arguments, options)),) = calls("--log_dir", "mine", "--lr", "0.5").items()
    assert name == "mine" and arguments == EXPECTED | {"lr": 0.5, "base_channels": 128}
    assert options.seed == 0 and not options.disable_amp


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
