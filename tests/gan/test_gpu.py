"""On a GPU, as far as that can be shown without one: nothing mixes devices, no step waits."""

import pytest
import q1_3
import q1_4
import q1_5
import torch
import train
from emulated_device import EmulatedGPU, MixedDevices
from helpers import TINY
from networks import Discriminator, Generator
from utils import interpolate_latent_space

from common.device import Precision
from common.measure import RunningMeans

CUDA = torch.device("cuda")


def one_iteration(gen, disc, question, batches, rng, means):
    """As train_model does it, without its optimizers."""
    precision, size = Precision(CUDA), batches.batch_size
    eps = torch.rand(size, 1, 1, 1, generator=rng, device=CUDA)
    z = torch.randn(size, 128, generator=rng, device=CUDA)
    data = batches.next(), z, eps if question is q1_5 else None
    loss_fns = question.compute_discriminator_loss, question.compute_generator_loss
    terms = train.discriminator_step(gen, disc, *data, loss_fns[0], 10, precision)
    terms |= train.generator_step(gen, disc, z, loss_fns[1], precision)
    means.add(terms, 1)


def parts(birds, networks):
    rng = torch.Generator("cuda").manual_seed(0)
    batches = train.Batches(train.Dataset(birds[:8], train.build_transforms()), 2, rng)
    gen, disc = (network().to(CUDA) for network in networks)
    return gen, disc, batches, rng, RunningMeans(CUDA)


@pytest.mark.parametrize("question", [q1_3, q1_4, q1_5])
def test_an_iteration_mixes_nothing_and_waits_for_nothing(question, birds):
    with EmulatedGPU() as gpu:
        gen, disc, batches, rng, means = parts(birds, (Generator, Discriminator))
        optimizers = train.get_optimizers_and_schedulers(gen, disc)
        assert gpu.holds(batches.images)
        for _ in range(2):  # the first makes the optimizers' state
            gpu.transfers.clear()
            one_iteration(gen, disc, question, batches, rng, means)
            for step in optimizers:
                step.step()
            assert gpu.transfers == []
        gpu.transfers.clear()
        found = means.means()
        assert found["discriminator_loss"] == found["discriminator_loss"]
        assert gpu.transfers == ["tolist"]  # all terms at once, at a log line
        assert not gpu.holds(batches.state_dict()["order"])
        assert not gpu.holds(means.state_dict()["sums"])


def test_pictures_of_a_generator_on_a_gpu(tmp_path):
    with EmulatedGPU():
        interpolate_latent_space(TINY[0]().to(CUDA), tmp_path / "grid.png")
    assert (tmp_path / "grid.png").exists()


def test_the_emulation_finds_what_a_gpu_would_refuse(birds):
    """Latents on the CPU, a generator on the CPU, and a read within the step."""
    with EmulatedGPU() as gpu:
        gen, disc, batches, rng, means = parts(birds, TINY)
        with pytest.raises(MixedDevices):
            gen.forward_given_samples(torch.randn(2, 128))
        with pytest.raises(MixedDevices, match="a generator on cpu"):
            one_iteration(gen, disc, q1_3, batches, torch.Generator("cpu"), means)
        gpu.transfers.clear()
        disc(batches.next()).mean().item()
        assert gpu.transfers == ["item"]
