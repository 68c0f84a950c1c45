import torch
from cleanfid import fid
from torchvision.utils import save_image


def save_plot(x, y, xlabel, ylabel, title, filename):
    pass


@torch.no_grad()
def get_fid(gen, dataset_name, dataset_resolution, z_dimension, batch_size, num_gen):
    return fid.compute_fid(
        gen=lambda z: (gen.forward_given_samples(z) / 2 + 0.5) * 255,
        dataset_name=dataset_name,
        dataset_res=dataset_resolution,
        num_gen=num_gen,
        z_dim=z_dimension,
        batch_size=batch_size,
        dataset_split="custom",
    )


@torch.no_grad()
def interpolate_latent_space(gen, path):
    steps = torch.linspace(-1, 1, 10)
    z = torch.zeros(100, 128).cuda()
    z[:, :2] = torch.cartesian_prod(steps, steps)
    save_image(gen.forward_given_samples(z) / 2 + 0.5, path, nrow=10)
