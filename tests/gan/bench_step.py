"""Seconds per iteration of our training step and of a plain one, side by side in one run.

    python tests/gan/bench_step.py [--batch_size 256] [--rounds 3] [--threads 2] [--disable_amp]

The plain one is the handout's, read literally: float32, contiguous (NCHW) tensors, the generator's
graph kept in the discriminator step, real, fake and interpolated images in three passes for every
loss, shortcuts convolved after the upsampling, the penalty differentiated twice, gradients of the
discriminator computed and dropped in the generator step, unfused Adam, three `.item()` an
iteration. Ours is measured for WGAN-GP without and with --fast_penalty; --disable_amp measures it
in float32. All start from the same weights. An iteration is (5 discriminator steps + 1 generator
step) / 5.
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
from dataset import draw_birds
from networks import Discriminator, Generator, UpSampleConv2D
from settings import Settings
from train import Losses, Trainer

from common.device import Precision, autocast_dtype, prepare


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
    def __init__(self, gen, disc, images, batch_size, question):
        self.gen, self.disc, self.question, self.batch_size = gen, disc, question, batch_size
        self.images = images.float() / 127.5 - 1
        self.optim_disc, self.optim_gen = (
            torch.optim.Adam(m.parameters(), 2e-4, betas=(0.0, 0.9)) for m in (disc, gen)
        )
        self.iteration = 0

    def iterate(self):
        real = self.images[torch.randint(len(self.images), (self.batch_size,))]
        fake = self.gen.forward_given_samples(torch.randn(self.batch_size, 128))
        discrim_real, discrim_fake = self.disc(real), self.disc(fake)
        eps = torch.rand(self.batch_size, 1, 1, 1)
        interp = eps * fake + (1 - eps) * real
        loss = self.question.compute_discriminator_loss(
            discrim_real, discrim_fake, self.disc(interp), interp, 10
        )
        self.optim_disc.zero_grad()
        loss.backward()
        self.optim_disc.step()
        loss.item(), discrim_real.mean().item(), discrim_fake.mean().item()
        if self.iteration % 5 == 0:
            fake = self.gen.forward_given_samples(torch.randn(self.batch_size, 128))
            loss = self.question.compute_generator_loss(self.disc(fake))
            self.optim_gen.zero_grad()
            loss.backward()
            self.optim_gen.step()
        self.iteration += 1


def seconds_per_iteration(trainer):
    """One iteration with and one without a generator step, weighted 1 : 4."""
    times = []
    for iteration in (0, 1):
        trainer.iteration = iteration
        start = time.perf_counter()
        trainer.iterate()
        times.append(time.perf_counter() - start)
    return (times[0] + 4 * times[1]) / 5


QUESTIONS = {"q1_3": q1_3, "q1_4": q1_4, "q1_5": q1_5}


def worker(name, question_name, args, connection):
    """Time one iteration whenever asked; each version in a process and allocator of its own."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    question, cpu = QUESTIONS[question_name], torch.device("cpu")
    images = draw_birds(2 * args.batch_size, torch.Generator().manual_seed(0))
    if name == "plain":
        networks = PlainGenerator(), Discriminator()
        trainer = PlainTrainer(*networks, images, args.batch_size, question)
    else:
        loss_fns = question.compute_discriminator_loss, question.compute_generator_loss
        losses = Losses(*loss_fns, interpolates=question is q1_5)
        settings = Settings(batch_size=args.batch_size, fast_penalty=name == "fast")
        dtype = autocast_dtype(cpu, not args.disable_amp)
        prepare(Precision(cpu, dtype))
        trainer = Trainer(Generator(), Discriminator(), losses, images, settings, dtype)
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
    parser.add_argument("--questions", nargs="+", default=list(QUESTIONS), choices=QUESTIONS)
    args = parser.parse_args()
    dtype = autocast_dtype(torch.device("cpu"), not args.disable_amp) or torch.float32
    print(
        f"torch {torch.__version__}, batch {args.batch_size}, {args.threads} threads, "
        f"ours in {dtype}, median of {args.rounds}"
    )
    spawn = multiprocessing.get_context("spawn")
    for question in args.questions:
        ends = {}
        for name in ("plain", "ours", *(["fast"] if question == "q1_5" else [])):
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
        line = f"{question}: plain {plain:.2f} s, ours {ours:.2f} s, {plain / ours:.1f}x"
        if "fast" in median:
            fast = median["fast"]
            line += f"; --fast_penalty {fast:.2f} s, {ours / fast:.2f}x ours, {plain / fast:.1f}x"
        print(line, flush=True)


if __name__ == "__main__":
    main()
