"""On a GPU, as far as that can be shown without one: nothing mixes devices, no step waits."""

import pytest
import q1_3
import q1_4
import q1_5
import torch
import train
from emulated_device import EmulatedGPU, MixedDevices
from networks import Discriminator, Generator
from settings import Settings
from train import Losses, Trainer
from utils import interpolate_latent_space

CUDA = torch.device("cuda")


def make_trainer(question, birds, fast=False):
    losses = question.compute_discriminator_loss, question.compute_generator_loss
    losses = Losses(*losses, interpolates=question is q1_5)
    gen, disc = Generator().to(CUDA), Discriminator().to(CUDA)
    return Trainer(gen, disc, losses, birds, Settings(batch_size=2, fast_penalty=fast))


@pytest.mark.parametrize(
    "question, fast", [(q1_3, False), (q1_4, False), (q1_5, False), (q1_5, True)]
)
def test_an_iteration_mixes_nothing_and_waits_for_nothing(question, fast, birds, monkeypatch):
    with EmulatedGPU() as gpu:
        trainer = make_trainer(question, birds, fast)
        assert trainer.device == CUDA and gpu.holds(trainer.batches.images)
        for _ in range(2):  # the first makes the optimizers' state, and takes a generator step
            gpu.transfers.clear()
            trainer.iterate()
            assert gpu.transfers == []
        gpu.transfers.clear()
        means = trainer.means.means()
        assert means["discriminator_loss"] == means["discriminator_loss"]
        assert gpu.transfers == ["tolist"]  # all terms at once, at a log line
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
        state = trainer.state_dict()
        assert not gpu.holds(state["batches"]["order"]) and not gpu.holds(state["means"]["sums"])


def test_pictures_of_a_generator_on_a_gpu(tmp_path):
    with EmulatedGPU():
        interpolate_latent_space(Generator().to(CUDA), tmp_path / "grid.png")
    assert (tmp_path / "grid.png").exists()


def test_the_emulation_finds_what_a_gpu_would_refuse(birds, monkeypatch):
    """Latents on the CPU, a generator on the CPU, and a read within the step."""
    latents, step = Trainer.latents, train.generator_step
    with EmulatedGPU() as gpu:
        trainer = make_trainer(q1_3, birds)
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "latents", lambda self: torch.randn(2, 128))
            with pytest.raises(MixedDevices):
                trainer.iterate()
        with monkeypatch.context() as patch:
            on_the_cpu = torch.Generator("cpu")
            patch.setattr(trainer, "rng", on_the_cpu)
            with pytest.raises(MixedDevices, match="a generator on cpu"):
                trainer.iterate()

        def read(*args):
            terms = step(*args)
            terms["generator_loss"].item()
            return terms

        trainer = make_trainer(q1_3, birds)
        gpu.transfers.clear()
        monkeypatch.setattr(train, "generator_step", read)
        trainer.iterate()
        assert gpu.transfers == ["item"]
    assert latents is Trainer.latents
