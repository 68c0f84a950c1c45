"""On a GPU, as far as that can be shown without one: nothing mixes devices, no step waits."""

import pytest
import torch
from dataset import draw_shapes
from ddpm import DiffusionTrainer
from diffusion import Diffusion, draw
from emulated_device import EmulatedGPU
from settings import DiffusionSettings, Settings
from train import AutoencoderTrainer, get_val_metrics, run_train_epoch
from unet import UNet

from common.device import Precision

CUDA = torch.device("cuda")


@pytest.mark.parametrize(
    "make, settings",
    [
        (AutoencoderTrainer, Settings(loss_mode="ae", latent_size=4, batch_size=4)),
        (AutoencoderTrainer, Settings(latent_size=4, batch_size=4, beta_mode="linear")),
        (AutoencoderTrainer, Settings(latent_size=4, batch_size=4, flows=2)),
        (AutoencoderTrainer, Settings(latent_size=4, batch_size=4, free_bits=0.5)),
        (DiffusionTrainer, DiffusionSettings(batch_size=4)),
    ],
)
def test_a_step_mixes_nothing_and_waits_for_nothing(make, settings):
    images = draw_shapes(12, torch.Generator().manual_seed(0)).split((8, 4))
    with EmulatedGPU() as gpu:
        trainer = make(images, settings, Precision(CUDA))
        assert trainer.device == CUDA and gpu.holds(trainer.train_loader.images)
        steps = []

        def after_step():
            trainer.after_step()
            steps.append([*gpu.transfers])
            gpu.transfers.clear()

        for _ in range(2):
            run_train_epoch(
                trainer.model,
                trainer.loss,
                trainer.train_loader,
                trainer.optimizer,
                means=trainer.means,
                after_step=after_step,
            )
            trainer.finish_epoch()
        # Step 1 of 4 makes what is made once: the optimizer's state, the schedule on the device.
        assert len(steps) == 4 and steps[1] == [], steps
        assert [name for step in steps[1:] for name in step if name != "tolist"] == []
        model = trainer.validated_model()
        means = get_val_metrics(model, trainer.val_loss, trainer.val_loader)
        assert means["loss"] == means["loss"]


@pytest.mark.parametrize("steps", [3, None])
def test_a_sampling_step_waits_for_nothing(steps):
    with EmulatedGPU() as gpu:
        model, diffusion, waits = UNet().to(CUDA), Diffusion(20), []

        def after_step():
            waits.append([*gpu.transfers])
            gpu.transfers.clear()

        generator = torch.Generator("cuda").manual_seed(0)
        x = draw(model, diffusion, 2, steps, generator=generator, after_step=after_step)
        assert gpu.holds(x) and x.shape == (2, 3, 32, 32)
        assert len(waits) == (steps or 20) and all(step == [] for step in waits[1:])
