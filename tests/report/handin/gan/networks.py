"""A hand-in in the manner of the handout, for the checks of its loop; the rest is the project's."""

import torch
from torch import nn


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(128, 3 * 32 * 32)

    def forward_given_samples(self, z):
        return torch.tanh(self.dense(z)).view(-1, 3, 32, 32)

    def forward(self, n_samples=1024):
        return self.forward_given_samples(torch.randn(n_samples, 128).cuda())


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(3, 1)

    def forward(self, x):
        return self.dense(x.sum((2, 3)))
