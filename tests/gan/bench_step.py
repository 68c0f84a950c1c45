"""Seconds per iteration of our training step and of a plain one, side by side in one run.

    python tests/gan/bench_step.py [--batch_size 256] [--rounds 3] [--threads 2] [--disable_amp]
                                   [--device cuda]

The plain one is the handout's, read literally: float32, contiguous (NCHW) tensors, the generator's
graph kept in the discriminator step, real, fake and interpolated images in three passes for every
loss, shortcuts convolved after the upsampling, the penalty differentiated twice, gradients of the
discriminator computed and dropped in the generator step, unfused Adam, three `.item()` an
iteration. --disable_amp measures ours in float32. All start from the same weights. An iteration
is (5 discriminator steps + 1 generator step) / 5.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "gan"))
import q1_3
import q1_4
import q1_5
import train
from dataset import Batches, Dataset, draw_birds
from networks import Discriminator, Generator, UpSampleConv2D

from common.device import Precision, autocast_dtype, prepare
from common.measure import RunningMeans


class PlainUpSample(UpSampleConv2D):
    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=self.upscale_factor, mode="nearest"))


class PlainGenerator(Generator):
    def __init__(self):
        super().__init__()
        for module in self.modules():
            if isinstance(module, UpSampleConv2D):
                module.__class__ = PlainUpSample

    def forward_given_samples(self, z):
        return self.layers(self.dense(z).view(-1, 128, 4, 4))


class PlainTrainer:
    def __init__(self, gen, disc, images, batch_size, question, device):
        self.gen, self.disc, self.question, self.batch_size = gen, disc, question, batch_size
        self.images, self.device = images.to(device).float() / 127.5 - 1, device
        self.optim_disc, self.optim_gen = (
            torch.optim.Adam(m.parameters(), 2e-4, betas=(0.0, 0.9)) for m in (disc, gen)
        )
        self.iteration = 0

    def latents(self):
        return torch.randn(self.batch_size, 128, device=self.device)

    def iterate(self):
        real = self.images[torch.randint(len(self.images), (self.batch_size,))]
        fake = self.gen.forward_given_samples(self.latents())
        discrim_real, discrim_fake = self.disc(real), self.disc(fake)
        eps = torch.rand(self.batch_size, 1, 1, 1, device=self.device)
        interp = eps * fake + (1 - eps) * real
        loss = self.question.compute_discriminator_loss(
            discrim_real, discrim_fake, self.disc(interp), interp, 10
        )
        self.optim_disc.zero_grad()
        loss.backward()
        self.optim_disc.step()
        loss.item(), discrim_real.mean().item(), discrim_fake.mean().item()
        if self.iteration % 5 == 0:
            fake = self.gen.forward_given_samples(self.latents())
            loss = self.question.compute_generator_loss(self.disc(fake))
            self.optim_gen.zero_grad()
            loss.backward()
            self.optim_gen.step()
        self.iteration += 1


class OurTrainer:
    """What an iteration of train_model does, from its own parts."""

    def __init__(self, gen, disc, images, batch_size, question, precision):
        self.gen, self.disc = (n.to(memory_format=torch.channels_last) for n in (gen, disc))
        self.question, self.size, self.precision = question, batch_size, precision
        self.device = precision.device
        self.rng = torch.Generator(self.device).manual_seed(0)
        self.batches = Batches(Dataset(images, train.build_transforms()), batch_size, self.rng)
        self.optimizers = train.get_optimizers_and_schedulers(gen, disc)
        self.means, self.iteration = RunningMeans(precision.device), 0

    def iterate(self):
        gen, disc, loss_fns = self.gen, self.disc, self.question
        optim_disc, sched_disc, optim_gen, sched_gen = self.optimizers
        eps = torch.rand(self.size, 1, 1, 1, generator=self.rng, device=self.device)
        z = torch.randn(self.size, 128, generator=self.rng, device=self.device)
        data = self.batches.next(), z, eps if loss_fns is q1_5 else None
        optim_disc.zero_grad()
        loss_fn = loss_fns.compute_discriminator_loss
        terms = train.discriminator_step(gen, disc, *data, loss_fn, 10, self.precision)
        optim_disc.step(), sched_disc.step()
        if self.iteration % 5 == 0:
            z = torch.randn(self.size, 128, generator=self.rng, device=self.device)
            optim_gen.zero_grad()
            loss_fn = loss_fns.compute_generator_loss
            terms |= train.generator_step(gen, disc, z, loss_fn, self.precision)
            optim_gen.step(), sched_gen.step()
        self.iteration += 1
        self.means.add(terms, self.iteration)


def seconds_per_iteration(trainer):
    """One iteration with and one without a generator step, weighted 1 : 4; on a GPU 40 in a row."""
    trainer.iteration, times = 0, []
    if trainer.device.type == "cuda":  # which computes behind: nothing says when one is done
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(40):
            trainer.iterate()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / 40
    for _ in range(2):
        start = time.perf_counter()
        trainer.iterate()
        times.append(time.perf_counter() - start)
    return (times[0] + 4 * times[1]) / 5


QUESTIONS = {"q1_3": q1_3, "q1_4": q1_4, "q1_5": q1_5}


def worker(name, question_name, args, connection):
    """Time one iteration whenever asked; each version in a process and allocator of its own."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    question, device = QUESTIONS[question_name], torch.device(args.device)
    images = draw_birds(2 * args.batch_size, torch.Generator().manual_seed(0))
    if name == "plain":
        networks = PlainGenerator().to(device), Discriminator().to(device)
        trainer = PlainTrainer(*networks, images, args.batch_size, question, device)
    else:
        precision = Precision(device, autocast_dtype(device, not args.disable_amp))
        prepare(precision)
        networks = Generator().to(device), Discriminator().to(device)
        trainer = OurTrainer(*networks, images, args.batch_size, question, precision)
    while connection.recv():
        connection.send(seconds_per_iteration(trainer))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--disable_amp", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--questions", nargs="+", default=list(QUESTIONS), choices=QUESTIONS)
    args = parser.parse_args()
    dtype = autocast_dtype(torch.device(args.device), not args.disable_amp) or torch.float32
    print(
        f"torch {torch.__version__}, batch {args.batch_size}, {args.threads} threads, "
        f"ours in {dtype}, median of {args.rounds}"
    )
    spawn = multiprocessing.get_context("spawn")
    for question in args.questions:
        ends = {}
        for name in ("plain", "ours"):
            ends[name], other_end = spawn.Pipe()
            spawn.Process(target=worker, args=(name, question, args, other_end)).start()
        times = {name: [] for name in ends}
        for number in range(args.rounds + 1):  # in turns; the first round warms up
            for name, end in ends.items():
                end.send(True)
                seconds = end.recv()
                if number:
                    times[name].append(seconds)
        for end in ends.values():
            end.send(False)
        median = {name: statistics.median(values) for name, values in times.items()}
        plain, ours = median["plain"], median["ours"]
        line = f"{question}: plain {plain:.3g} s, ours {ours:.3g} s, {plain / ours:.1f}x"
        print(line, flush=True)


if __name__ == "__main__":
    main()
