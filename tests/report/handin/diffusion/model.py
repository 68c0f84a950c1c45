"""The handout's DiffusionModel, filled in from the equations."""

import math

import torch
from torch import nn


def extract(values, t, shape):
    return values[t].view(-1, *[1] * (len(shape) - 1))


class DiffusionModel(nn.Module):
    def __init__(self, model, timesteps=1000, sampling_timesteps=None, ddim_sampling_eta=1.0):
        super().__init__()
        self.model, self.channels = model, model.channels
        self.device = torch.cuda.current_device()
        share = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
        ideal = ((share + 0.008) / 1.008 * math.pi / 2).cos() ** 2
        self.betas = (1 - ideal[1:] / ideal[:-1]).clamp(0, 0.999).float().to(self.device)
        self.alphas_cumprod = (1 - self.betas).cumprod(0)
        before = torch.cat([torch.ones(1), self.alphas_cumprod[:-1]])
        self.coef1 = before.sqrt() * self.betas / (1 - self.alphas_cumprod)
        self.coef2 = (1 - self.betas).sqrt() * (1 - before) / (1 - self.alphas_cumprod)
        self.posterior_variance = self.betas * (1 - before) / (1 - self.alphas_cumprod)
        self.num_timesteps = timesteps
        self.sampling_timesteps, self.eta = sampling_timesteps or timesteps, ddim_sampling_eta

    def get_posterior_parameters(self, x_0, x_t, t):
        mean = extract(self.coef1, t, x_t.shape) * x_0 + extract(self.coef2, t, x_t.shape) * x_t
        variance = extract(self.posterior_variance, t, x_t.shape)
        return mean, variance, variance.clamp(min=1e-20).log()

    def model_predictions(self, x_t, t):
        noise = self.model(x_t, t)
        share = extract(self.alphas_cumprod, t, x_t.shape)
        x_0 = (x_t - (1 - share).sqrt() * noise) / share.sqrt()
        return noise, x_0.clamp(-1, 1)

    def predict_denoised_at_prev_timestep(self, x, t):
        _, x_0 = self.model_predictions(x, t)
        mean, _, log_variance = self.get_posterior_parameters(x_0, x, t)
        z = torch.randn_like(x) if t[0] > 0 else 0
        return mean + (0.5 * log_variance).exp() * z, x_0

    def sample_ddpm(self, shape, z):
        for t in range(self.num_timesteps - 1, -1, -1):
            z, _ = self.predict_denoised_at_prev_timestep(z, torch.full((shape[0],), t))
        return (z + 1) / 2

    def ddim_step(self, batch, device, tau_i, tau_isub1, img, predictions, alphas_cumprod, eta):
        noise, x_0 = predictions(img, torch.full((batch,), tau_i))
        now = alphas_cumprod[tau_i]
        then = alphas_cumprod[tau_isub1] if tau_isub1 >= 0 else torch.ones(())
        sigma = eta * ((1 - then) / (1 - now) * (1 - now / then)).sqrt()
        direction = (1 - then - sigma**2).clamp(min=0).sqrt() * noise
        return then.sqrt() * x_0 + direction + sigma * torch.randn_like(img), x_0

    def sample_ddim(self, shape, z):
        times = torch.linspace(-1, self.num_timesteps - 1, self.sampling_timesteps + 1).int()
        times = times.tolist()[::-1]
        how = self.model_predictions, self.alphas_cumprod, self.eta
        for tau, earlier in zip(times[:-1], times[1:]):
            z, _ = self.ddim_step(shape[0], self.device, tau, earlier, z, *how)
        return (z + 1) / 2

    def sample(self, shape):
        return self.sample_given_z(torch.randn(shape), shape)

    def sample_given_z(self, z, shape):
        ddim = self.sampling_timesteps < self.num_timesteps
        return (self.sample_ddim if ddim else self.sample_ddpm)(shape, z.reshape(shape))
