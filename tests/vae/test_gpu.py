"""On a GPU, as far as that can be shown without one: nothing mixes devices, no step waits."""

from argparse import Namespace

import pytest
import torch
from dataset import draw_shapes
from ddpm import WeightAverage
from diffusion.process import Diffusion, ddpm_loss, draw
from diffusion.unet import UNet
from emulated_device import EmulatedGPU
from options import get_args
from presets import build, losses_of
from train import get_val_metrics, run_train_epoch
from utils import get_dataloaders

CUDA = torch.device("cuda")


def made(loss_mode, *argv):
    """A model, and the loss it is trained by."""
    if loss_mode == "ddpm":
        process = Diffusion()
        return UNet(), lambda model, x: (ddpm_loss(model, x, process), {})
    options = get_args("", ["--log_dir", "run", *argv])
    return build(loss_mode, 4, 128, options), losses_of(loss_mode, options)[0]


@pytest.mark.parametrize("kind", ["ae", "vae", "vae --flows 2", "vae --free_bits 0.5", "ddpm"])
def test_a_step_mixes_nothing_and_waits_for_nothing(kind):
    images = draw_shapes(12, torch.Generator().manual_seed(0)).split((8, 4))
    with EmulatedGPU() as gpu:
        model, loss = made(*kind.split())
        model = model.to(CUDA)
        train_loader, val_loader = get_dataloaders(4, Namespace(seed=0, device=CUDA), images)
        assert gpu.holds(train_loader.images)
        optimizer = torch.optim.Adam(model.parameters(), fused=False)
        average = WeightAverage(model, UNet, 0.9) if kind == "ddpm" else None
        steps = []

        def watched(loader):
            for batch in loader:
                yield batch
                if average:
                    average.update()
                steps.append([*gpu.transfers])
                gpu.transfers.clear()

        for _ in range(2):
            run_train_epoch(model, loss, watched(train_loader), optimizer)
        # Step 1 of 4 makes what is made once: the optimizer's state, the schedule on the device.
        assert len(steps) == 4 and steps[1] == [], steps
        assert [name for step in steps[1:] for name in step if name != "tolist"] == []
        means = get_val_metrics(model, loss, val_loader)
        assert means["loss"] == means["loss"]


@pytest.mark.parametrize("steps", [3, None])
def test_a_sampling_step_waits_for_nothing(steps):
    with EmulatedGPU() as gpu:
        model, diffusion, waits = UNet().to(CUDA), Diffusion(20), []
        after_step = lambda: waits.append([*gpu.transfers]) or gpu.transfers.clear()
        generator = torch.Generator("cuda").manual_seed(0)
        x = draw(model, diffusion, 2, steps, generator=generator, after_step=after_step)
        assert gpu.holds(x) and x.shape == (2, 3, 32, 32)
        assert len(waits) == (steps or 20) and all(step == [] for step in waits[1:])
