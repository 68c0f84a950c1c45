import os
from glob import glob

import torch
from PIL import Image
from torchvision import transforms
from torchvision.utils import save_image
from utils import get_fid, interpolate_latent_space, save_plot

import wandb  # isort: skip  (nobody has it: stood in for)


def build_transforms():
    return transforms.Compose([transforms.ToTensor(), lambda x: 2 * x - 1])


def get_optimizers_and_schedulers(gen, disc):
    def make(module, total):
        optimizer = torch.optim.Adam(module.parameters(), lr=2e-4, betas=(0, 0.9))
        linear = torch.optim.lr_scheduler.LinearLR
        schedule = linear(optimizer, 1.0, 0.0, total_iters=total, verbose=False)
        return optimizer, schedule

    return *make(disc, 500_000), *make(gen, 100_000)


class Dataset(torch.utils.data.Dataset):
    def __init__(self, root, transform):
        self.names, self.transform = glob(os.path.join(root, "*.jpg")), transform

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return self.transform(Image.open(self.names[index]))


def train_model(
    gen,
    disc,
    num_iterations,
    batch_size,
    lamb=10,
    prefix=None,
    gen_loss_fn=None,
    disc_loss_fn=None,
    log_period=10000,
    amp_enabled=True,
):
    data = Dataset("datasets/CUB_200_2011_32", build_transforms())
    how = {"batch_size": batch_size, "num_workers": 4, "pin_memory": True}
    loader = torch.utils.data.DataLoader(data, shuffle=True, drop_last=True, **how)
    optim_disc, sched_disc, optim_gen, sched_gen = get_optimizers_and_schedulers(gen, disc)
    scaler = torch.cuda.amp.GradScaler()
    wandb.init(project="gan")
    iters, done = 0, False
    while not done:
        for batch in loader:
            with torch.cuda.amp.autocast(enabled=amp_enabled):
                real = batch.cuda()
                with torch.no_grad():
                    fake = gen(len(real))
                eps = torch.rand(len(real), 1, 1, 1, device="cuda")
                interp = (eps * real + (1 - eps) * fake).requires_grad_()
                loss = disc_loss_fn(disc(real), disc(fake), disc(interp), interp, lamb)
            optim_disc.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optim_disc)
            sched_disc.step()
            if iters % 5 == 0:
                loss = gen_loss_fn(disc(gen(len(real))))
                optim_gen.zero_grad()
                scaler.scale(loss).backward()
                scaler.step(optim_gen)
                sched_gen.step()
            scaler.update()
            iters += 1
            if iters % log_period == 0:
                with torch.no_grad():
                    samples = gen(100) / 2 + 0.5
                save_image(samples, prefix + f"samples_{iters}.png", nrow=10)
                torch.jit.save(torch.jit.script(gen), prefix + "generator.pt")
                get_fid(gen, "cub", 32, 128, 256, num_gen=10_000)
                save_plot([], [], "", "", "", prefix + "fid")
                interpolate_latent_space(gen, prefix + "interpolations.png")
            done = iters == num_iterations
            if done:
                break
    get_fid(gen, "cub", 32, 128, 256, num_gen=50_000)
