"""How much of the noise a diffusion model finds at each time: a row a time, on validation images.

    python tests/vae/bench_errors.py --model report/runs/ddpm_v/model.pt --data_dir CIFAR10

sigma is the noise's standard deviation in x_t. "noise found" is 1 - E(noise - noise predicted)^2:
the noise has variance 1, so 0 is found by predicting none. "error of the image" is the root mean
square of x_0 - x_0 predicted. Both after the predicted image was clipped to [-1, 1], as a sampler
does.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "vae"))
from dataset import load_cifar10
from ddpm import recorded_prediction
from diffusion.process import Diffusion
from diffusion.unet import UNet
from utils import preprocess_data

from common.files import load_weights
from common.measure import measuring

TIMES = (2, 5, 10, 20, 50, 100, 200, 300, 500, 700, 900, 990)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--data_dir", required=True, type=Path)
    parser.add_argument("--images", type=int, default=500)
    args = parser.parse_args()
    model, diffusion = UNet(), Diffusion(predict=recorded_prediction(args.model))
    load_weights(model, args.model, "--model")
    _, validation = load_cifar10(args.data_dir, download=False)
    x0 = preprocess_data(validation[: args.images])  # (N, 3, 32, 32) in [-1, 1]
    print(f"{'time':>4}  {'sigma':>6}  {'noise found':>11}  {'error of the image':>18}")
    for time in TIMES:
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
        times = torch.full((len(x0),), time)
        x = diffusion.q_sample(x0, times, noise)
        with measuring(model):
            image = diffusion.predict_x0(x, times, model(x, times))
        found = 1 - (noise - diffusion.noise_in(x, times, image)).square().mean()
        sigma, error = (1 - diffusion.alpha_bar[time]).sqrt(), (x0 - image).square().mean().sqrt()
        print(f"{time:>4}  {sigma:>6.4f}  {found:>11.3f}  {error:>18.4f}", flush=True)


if __name__ == "__main__":
    main()
