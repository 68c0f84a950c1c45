"""The checker: this project passes, and each slip that is put into it is found and named."""

import csv
import difflib
import json
import shutil
import subprocess
import sys
import zipfile

import check
import checks
import checks.diffusion
import checks.gan
import checks.vae
import pytest
from slips import HANDIN, ROOT, Slip, changed, half_of, packs, read

# FILE, check, verdict: words of its sentence.
SLIPS = read(r"""
@ gan/networks.py upsampling wrong: handout's
- return F.interpolate(x, scale_factor=self.upscale_factor, mode="nearest")
+ return F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2)
* return F.interpolate(x, scale_factor=2, mode="nearest")
@ gan/networks.py upsampling wrong: bilinear
- return F.interpolate(x, scale_factor=self.upscale_factor, mode="nearest")
+ return F.interpolate(x, scale_factor=self.upscale_factor, mode="bilinear")
* return F.pixel_shuffle(x.repeat_interleave(4, dim=1), 2)
@ gan/networks.py upsampling differs: a literal
- nn.Conv2d(input_channels, n_filters, kernel_size, padding=padding)
+ nn.Conv2d(input_channels, 128, kernel_size, padding=padding)
@ gan/networks.py pooling wrong: over images
- self.conv(avg_pool2d(x, self.downscale_ratio))
+ self.conv(F.pixel_unshuffle(x, 2).reshape(4, len(x), -1, *x[0, 0, ::2, ::2].shape).mean(0))
* self.conv(F.avg_pool2d(x, 2))
@ gan/networks.py scores_alone wrong: image 1
- self.conv(avg_pool2d(x, self.downscale_ratio))
+ self.conv(F.pixel_unshuffle(x, 2).reshape(4, len(x), -1, *x[0, 0, ::2, ::2].shape).mean(0))
@ gan/networks.py pooling wrong: different channels
- self.conv(avg_pool2d(x, self.downscale_ratio))
+ self.conv(F.pixel_unshuffle(x, 2).reshape(len(x), 4, -1, *x[0, 0, ::2, ::2].shape).mean(1))
* self.conv(F.avg_pool2d(x, 2))
@ gan/networks.py pooling wrong: largest
- self.conv(avg_pool2d(x, self.downscale_ratio))
+ self.conv(F.max_pool2d(x, 2))
* self.conv(F.avg_pool2d(x, 2))
@ gan/networks.py generator_parameters wrong: +384
- padding=1, bias=False
+ padding=1
@ gan/networks.py discriminator_parameters wrong: -256
- n_filters, kernel_size, padding=1),
-             ReLU(),
-             Down
+ n_filters, kernel_size, padding=1, bias=False),
+             ReLU(),
+             Down
@ gan/networks.py block_up wrong: no shortcut
- self.layers(x) + self.upsample_residual(x)
+ self.layers(x)
@ gan/networks.py block_up wrong: another sum
- self.layers(x) + self.upsample_residual(x)
+ self.layers(x) + 2 * self.upsample_residual(x)
@ gan/networks.py block_down wrong: in-place ReLU
- ReLU(),
-             Conv2d(input_channels, n_filters, kernel_size, padd
+ nn.ReLU(True),
+             Conv2d(input_channels, n_filters, kernel_size, padd
* nn.ReLU(),
*             Conv2d(input_channels, n_filters, kernel_size, padd
@ gan/networks.py block wrong: changes the
- return x + self.layers(x)
+ x += self.layers(x); return x
@ gan/networks.py images wrong: by a Tanh
- nn.Tanh()
+ nn.Identity()
@ gan/networks.py images wrong: no pixel below
- nn.Tanh()
+ nn.Sigmoid()
* nn.Tanh( )
@ gan/networks.py latents wrong: uniform
- z = torch.randn(n_samples
+ z = torch.rand(n_samples
@ gan/networks.py latents wrong: standard deviation 0.
- return self.forward_given_samples(z.to(weight.dtype))
+ return self.forward_given_samples(0.7 * z)
@ gan/networks.py latents differs: float16
- dtype=torch.float32)
+ dtype=torch.float16)
@ gan/networks.py starting_size differs: only 4 works
- size = self.starting_image_size
+ size = 4
@ gan/networks.py starting_size wrong: shape (8, 3, 16, 16)
- self.dense(z).view(-1, 128, size, size)
+ self.dense(z).repeat(1, 4).view(-1, 128, size, size)
* self.dense(z).view(len(z), 128, size, size)
@ gan/networks.py score_of_sum wrong: mean over
- features.sum(dim=(2, 3))
+ features.mean(dim=(2, 3))
* features.clone().sum(dim=(2, 3))
@ gan/networks.py score_of_sum wrong: sigmoid
- features.sum(dim=(2, 3)))
+ features.sum(dim=(2, 3))).sigmoid()
@ gan/train.py transform wrong: 0.00, 0.50, 1.00
- , transforms.Normalize((0.5,) * 3, (0.5,) * 3)])
+ ])
* , transforms.Normalize((0.5,) * 3, (0.5,) * 3) ])
@ gan/train.py optimizers wrong: (0.5, 0.9)
- betas=(0.0, 0.9)
+ betas=(0.5, 0.9)
@ gan/train.py optimizers differs: write (0.0, 0.9)
- betas=(0.0, 0.9)
+ betas=(0, 0.9)
@ gan/train.py optimizers differs: another order
- return *adam_and_decay(disc, 500_000), *adam_and_decay(gen, 100_000)
+ return *adam_and_decay(gen, 100_000), *adam_and_decay(disc, 500_000)
@ gan/train.py schedules differs: negative
- max(0.0, 1 - step / steps)
+ 1 - step / steps
@ gan/train.py schedules wrong: 1.000, 1.000
- max(0.0, 1 - step / steps)
+ 1.0
* max(0.0, 1 - step / (total := steps))
@ gan/train.py schedules wrong: StepLR
- torch.optim.lr_scheduler.LambdaLR(
-             optimizer, lambda step: max(0.0, 1 - step / steps)
-         )
+ torch.optim.lr_scheduler.StepLR(optimizer, 0.01, 1e5)
* torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
@ gan/train.py iterations differs: 9 for 7
- at_end = run.step, run.step == num_iterations
+ at_end = run.step, run.step == num_iterations + 2
@ gan/train.py generator_steps wrong: 4 generator steps
- iters % generator_every == 0
+ iters % 2 == 0
* iters % 5 == 0
@ gan/train.py detached differs: thrown away
- with torch.no_grad(), precision():
-         fake
+ with precision():
+         fake
@ gan/train.py interpolates wrong: off the line
- torch.rand(batch_size, 1, 1, 1
+ torch.randn(batch_size, 1, 1, 1
* torch.rand(len([0] * batch_size), 1, 1, 1
@ gan/train.py interpolates wrong: off the line
- torch.rand(batch_size, 1, 1, 1
+ torch.rand(batch_size, 3, 32, 32
@ gan/train.py interpolates differs: one eps
- torch.rand(batch_size, 1, 1, 1
+ torch.rand(1, 1, 1, 1
@ gan/common/files.py sample_range wrong: as they are
- .add(1).div(2).clamp(0, 1)
+ .add(0)
* .add(0); images = ((images + 1) / 2).clamp(0, 1)
@ gan/common/files.py interpolation_picture wrong: as they
- .add(1).div(2).clamp(0, 1)
+ .add(0)
@ gan/utils.py interpolation_grid wrong: 0.80
- steps = torch.linspace(-1, 1, 10
+ steps = torch.linspace(-1, 0.8, 10
@ gan/utils.py interpolation_grid wrong: other 126
- torch.zeros(LATENT_DIM, device=device) if rest is None else rest).repeat(100, 1)
+ torch.zeros(LATENT_DIM, device=device) if rest is None else rest).repeat(100, 1).normal_()
* torch.zeros(100, 128))
@ gan/fid.py fid_images wrong: 0.25
- images.add(1).mul(127.5)
+ images.add(1).mul(0.5)
* images; images = (images / 2 + 0.5) * 255
@ gan/q1_3.py gan_discriminator wrong: expected
- F.softplus(-discrim_real)
+ F.softplus(discrim_real)
* F.binary_cross_entropy_with_logits(discrim_real, discrim_real * 0 + 1)
@ gan/q1_3.py gan_discriminator wrong: swapped
- return F.softplus(-discrim_real).mean() +
+ discrim_real, discrim_fake = discrim_fake, discrim_real
+     return F.softplus(-discrim_real).mean() +
@ gan/q1_3.py gan_discriminator wrong: a sigmoid before
- return F.softplus(-discrim_real).mean() +
+ discrim_real, discrim_fake = discrim_real.sigmoid(), discrim_fake.sigmoid()
+     return F.softplus(-discrim_real).mean() +
@ gan/q1_3.py gan_discriminator differs: the mean
- return F.softplus(-discrim_real).mean() +
+ return 0.5 * F.softplus(-discrim_real).mean() + 0.5 *
@ gan/q1_3.py gan_generator differs: vanishes
- return F.softplus(-discrim_fake).mean()
+ return -F.softplus(discrim_fake).mean()
@ gan/q1_3.py gan_generator wrong: another aim
- return F.softplus(-discrim_fake).mean()
+ return F.softplus(discrim_fake).mean()
* return F.binary_cross_entropy_with_logits(discrim_fake, discrim_fake * 0 + 1)
@ gan/q1_3.py gan_huge wrong: not finite
- return F.softplus(-discrim_real)
+ return -discrim_real.sigmoid().log()
* return F.binary_cross_entropy_with_logits(discrim_real, discrim_real * 0 + 1)
@ gan/q1_3.py no_interpolates wrong: q1_3
- F.softplus(discrim_fake).mean()
+ F.softplus(discrim_fake).mean() + interp.sum() + discrim_interp.square().mean()
@ gan/q1_3.py script_1_3 differs: num_iterations 20,000 instead of 30,000
- num_iterations=args.num_iterations
+ num_iterations=20_000
@ gan/q1_4.py lsgan_discriminator wrong: target 1
- discrim_fake.square().mean()
+ (discrim_fake - 1).square().mean()
* (discrim_fake ** 2).mean()
@ gan/q1_4.py lsgan_discriminator differs: 2 times
- return 0.5 * (discrim_real - 1).square().mean() + 0.5
+ return (discrim_real - 1).square().mean() + 1.0
@ gan/q1_4.py lsgan_discriminator differs: first choice
- discrim_fake.square()
+ (discrim_fake + 1).square()
@ gan/q1_4.py lsgan_generator wrong: expected
- return 0.5 * (discrim_fake - 1).square().mean()
+ return 0.5 * (discrim_fake + 1).square().mean()
* fake = discrim_fake; return 0.5 * ((fake - 1) ** 2).mean()
@ gan/q1_4.py lsgan_generator differs: first choice
- return 0.5 * (discrim_fake - 1)
+ return 0.5 * discrim_fake
@ gan/q1_4.py script_1_4 differs: log_period 100 instead of 1,000
- log_period=args.log_period
+ log_period=100
@ gan/q1_5.py script_1_5 wrong: gen_loss_fn is
- gen_loss_fn=compute_generator_loss,
-         disc_loss_fn=compute_discriminator_loss,
+ gen_loss_fn=compute_discriminator_loss,
+         disc_loss_fn=compute_generator_loss,
@ gan/q1_5.py script_1_5 differs: lamb 1 instead of 10
- lamb=args.lamb
+ lamb=1
@ gan/q1_5.py wgan wrong: cross-entropy
- discrim_fake.mean() - discrim_real.mean()
+ (1 + discrim_fake.exp()).log().mean() + (1 + (-discrim_real).exp()).log().mean()
@ gan/q1_5.py wgan wrong: reversed
- discrim_fake.mean() - discrim_real.mean()
+ discrim_real.mean() - discrim_fake.mean()
* (fake := discrim_fake).mean() * 0 + fake.mean() - discrim_real.mean()
@ gan/q1_5.py penalty_norm wrong: whole batch
- gradient.float().flatten(1).norm(dim=1)
+ gradient.float().norm()
* gradient.flatten(1).norm(dim=1)
@ gan/q1_5.py penalty_norm wrong: per pixel
- gradient.float().flatten(1).norm(dim=1)
+ gradient.float().norm(dim=1)
* gradient.flatten(1).norm(dim=1)
@ gan/q1_5.py penalty_norm wrong: square of the mean
- (norm - 1).square().mean()
+ (norm.mean() - 1).square()
* ((norm - 1) ** 2).mean()
@ gan/q1_5.py penalty_norm wrong: without lambda
- loss + lamb * (norm - 1).square().mean()
+ loss + (norm - 1).square().mean()
* loss + lamb * ((norm - 1) ** 2).mean()
@ gan/q1_5.py penalty_norm wrong: one-sided
- (norm - 1).square().mean()
+ (norm - 1).clamp(min=0).square().mean()
* ((norm - 1) ** 2).mean()
@ gan/q1_5.py penalty_norm wrong: of the scores
- norm = gradient.float().flatten(1).norm(dim=1)
+ norm = discrim_interp.flatten().abs()
* norm = gradient.flatten(1).norm(dim=1)
@ gan/q1_5.py penalty_gradient wrong: no gradient
- interp, create_graph=True)
+ interp)
* interp, retain_graph=True, create_graph=True)
@ gan/q1_5.py penalty_at_zero wrong: nan
- gradient.float().flatten(1).norm(dim=1)
+ gradient.square().sum((1, 2, 3)).sqrt()
* gradient.flatten(1).norm(dim=1)
@ vae/model.py encoder_layers wrong: convolution 1
- nn.Conv2d(32, 64, kernel_size=3
+ nn.Conv2d(32, 64, kernel_size=5
@ vae/model.py encoder_layers wrong: after the last
- features = 256 * (height // 8)
+ self.convs.append(nn.ReLU())
+         features = 256 * (height // 8)
@ vae/model.py encoder_layers wrong: between convolutions 0 and 1
- nn.Conv2d(channels, 32, kernel_size=3, stride=1, padding=1),
-             nn.ReLU(),
+ nn.Conv2d(channels, 32, kernel_size=3, stride=1, padding=1),
@ vae/model.py vae_encoder_layers wrong: (4096, 48)
- outputs_per_latent = 2
+ outputs_per_latent = 3
@ vae/model.py encoder_output wrong: not used
- self.fc(self.convs(x).flatten(1))
+ (self.convs(x).mean() * 0 + x.flatten(1)[:, : self.fc.out_features])
* self.fc(self.convs(x).flatten( 1))
@ vae/model.py vae_encoder_output differs: second half
- mu, log_std = super()
+ log_std, mu = super()
@ vae/model.py vae_encoder_output wrong: the same outputs
- return mu, log_std
+ return mu, mu
@ vae/model.py decoder_layers wrong: before the first
- self.deconvs = nn.Sequential(
-             nn.ReLU(),
+ self.deconvs = nn.Sequential(
@ vae/model.py decoder_layers differs: 256
- base_channels: int = 128):
+ base_channels: int = 256):
@ vae/model.py decoder_layers differs: same family
- nn.Conv2d(32, channels, kernel_size=3, padding=1)
+ nn.ConvTranspose2d(32, channels, kernel_size=3, padding=1)
@ vae/model.py decoder_layers wrong: a Tanh
- nn.Conv2d(32, channels, kernel_size=3, padding=1),
+ nn.Conv2d(32, channels, kernel_size=3, padding=1), nn.Tanh(),
@ vae/model.py decoder_output wrong: shape
- return self.deconvs(
+ return self.deconvs[:-1](
@ vae/losses.py ae_loss wrong: over pixels
- (reconstruction.float() - x).square().sum(dim=(1, 2, 3)).mean()
+ (reconstruction.float() - x).square().mean()
* ((reconstruction - x) ** 2).flatten(1).sum(1).mean()
@ vae/losses.py ae_loss differs: half
- (reconstruction.float() - x).square().sum(dim=(1, 2, 3)).mean()
+ 0.5 * (reconstruction.float() - x).square().sum(dim=(1, 2, 3)).mean()
@ vae/losses.py ae_loss wrong: tanh
- (reconstruction.float() - x).square().sum(dim=(1, 2, 3)).mean()
+ (reconstruction.tanh() - x).square().sum(dim=(1, 2, 3)).mean()
* ((reconstruction - x) ** 2).flatten(1).sum(1).mean()
@ vae/losses.py vae_recon wrong: the batch
- (reconstruction.float() - x).square().sum(dim=(1, 2, 3)).mean()
+ (reconstruction.float() - x).square().sum()
* ((reconstruction - x) ** 2).flatten(1).sum(1).mean()
@ vae/losses.py vae_recon wrong: beta
- return recon_loss + beta * kl_loss, OrderedDict(
+ return recon_loss + kl_loss, OrderedDict(
* return recon_loss + beta * kl_loss, OrderedDict(
@ vae/losses.py vae_recon wrong: without beta
- kl_loss = kl_divergence(mu, log_std)
-     return recon_loss + beta * kl_loss
+ kl_loss = beta * kl_divergence(mu, log_std)
+     return recon_loss + kl_loss
@ vae/losses.py kl_value wrong: sum over the batch
- kl_terms(mu, log_std).sum(dim=1).mean()
+ kl_terms(mu, log_std).sum()
* (0.5 * (mu ** 2 + (2 * log_std).exp() - 2 * log_std - 1)).sum(1).mean()
@ vae/losses.py kl_value wrong: latents instead
- kl_terms(mu, log_std).sum(dim=1).mean()
+ kl_terms(mu, log_std).mean()
* (0.5 * (mu ** 2 + (2 * log_std).exp() - 2 * log_std - 1)).sum(1).mean()
@ vae/losses.py kl_value wrong: another Gaussian
- log_std.exp() * noise
+ (0.5 * log_std).exp() * noise
@ vae/losses.py kl_value differs: log variance
- mu, log_std = (output.float() for output in model.encoder(x))  # (B, latent_size) each
-     z = reparameterise(mu, log_std)
-     recon_loss = reconstruction_error(model.decoder(z), x)
-     kl_loss
+ mu, log_std = (output.float() for output in model.encoder(x))
+     log_std = 0.5 * log_std
+     z = reparameterise(mu, log_std)
+     recon_loss = reconstruction_error(model.decoder(z), x)
+     kl_loss
@ vae/losses.py vae_noise wrong: one number
- torch.randn_like(mu)
+ torch.randn_like(mu[:, :1])
* mu * 0 + torch.randn_like(mu)
@ vae/losses.py vae_noise wrong: for every image
- torch.randn_like(mu)
+ torch.randn_like(mu[:1])
@ vae/losses.py vae_noise wrong: no noise
- mu + log_std.exp() * noise
+ mu
* mu + log_std.exp() * torch.randn_like(mu)
@ vae/losses.py vae_noise differs: output itself
- log_std.exp() * noise
+ log_std * noise
@ vae/losses.py kl_extremes differs: -60
- - 2 * log_std - 1
+ - log_std.exp().square().log() - 1
@ vae/schedules.py constant_beta wrong: 0.8
- return lambda epoch: target_val
-
+ return lambda epoch: 1.0
+
@ vae/schedules.py constant_beta differs: a list
- return lambda epoch: target_val
-
+ return [target_val] * 20
+
@ vae/schedules.py linear_beta wrong: target of 0.8
- target_val * min(1.0, epoch / max_epochs)
+ min(target_val, epoch / max_epochs)
* (target_val * epoch / max_epochs)
@ vae/schedules.py linear_beta differs: max_epochs - 1
- target_val * min(1.0, epoch / max_epochs)
+ target_val * min(1.0, epoch / (max_epochs - 1))
@ vae/schedules.py linear_beta differs: a list
- return lambda epoch: target_val * min(1.0, epoch / max_epochs)
+ return [target_val * epoch / max_epochs for epoch in range(max_epochs)]
@ vae/schedules.py linear_beta not there: TODO
- return lambda epoch: target_val * min(1.0, epoch / max_epochs)
+ return lambda epoch: None
@ vae/train.py clipping wrong: limits
- torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
+ pass
* torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip )
@ vae/train.py clipping wrong: limits
- torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
+ torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
@ vae/train.py beta_reaches_loss wrong: 0.3
- beta(step) if callable(beta) else beta)
-         loss.backward
+ 1)
+         loss.backward
@ vae/train.py weighted_means differs: batch means
- means.add({"loss": loss} | terms, 1, len(x))
+ means.add({"loss": loss} | terms, 1)
@ vae/train.py same_range wrong: training
- x = preprocess_data(x, device)  # (B, 3, 32, 32) in [-1, 1]
-         optimizer
+ x = preprocess_data(x, device) * 2 - 1
+         optimizer
* x = preprocess_data(x)
*         optimizer
@ vae/train.py validation differs: no_grad
- with measuring(model, seed=0) as device, precision():
+ device = next(model.parameters()).device
+     with precision():
@ vae/presets.py script differs: 1 of these runs are not called
- "ae_latent16": {"loss_mode": "ae", "latent_size": 16},
+ "ae_latent16": {"loss_mode": "ae", "latent_size": 17},
@ vae/utils.py pictures wrong: two
- return save_grid(framed, as_png(_file, "_recons.png"), nrow=12)
+ return framed
@ handin:gan/train.py tail_batch differs: last of an epoch
- drop_last=True
+ drop_last=False
@ handin:gan/train.py tail_batch differs: 4 real images beside 1 fakes
- disc(fake), disc(interp)
+ disc(fake[:1]), disc(interp)
@ handin:gan/train.py schedule_steps wrong: (7, 0)
- sched_gen.step()
+ pass
@ handin:gan/train.py full_precision wrong: by hand
- disc(fake), disc(interp)
+ disc(fake).half().float(), disc(interp)
@ handin:gan/train.py detached differs: thrown away
- (eps * real + (1 - eps) * fake).requires_grad_()
+ eps * real + (1 - eps) * gen(len(real))
@ handin:gan/train.py score_counts differs: 50,000
- num_gen=50_000
+ num_gen=10_000
@ handin:gan/train.py sample_range wrong: as they are
- samples = gen(100) / 2 + 0.5
+ samples = gen(100)
@ handin:gan/train.py sample_range differs: a picture of 4 images, as many as a batch
- samples = gen(100) / 2 + 0.5
+ samples = gen(batch_size) / 2 + 0.5
@ handin:gan/train.py sample_range differs: value_range
- + 0.5
-                 save_image(samples,
+ + 0.5
+                 save_image(range=(0, 1), tensor=samples, fp=
@ handin:gan/utils.py fid_images wrong: -0.5
- (gen.forward_given_samples(z) / 2 + 0.5) * 255
+ gen.forward_given_samples(z)
@ handin:gan/utils.py fid_images wrong: 300, as asked
- num_gen=num_gen
+ num_gen=10
@ handin:vae/utils.py preprocessing wrong: become
- 2 * x - 1
+ x
* 2 * x - 1.0
@ handin:diffusion/model.py prediction wrong: sign
- x_t - (1 - share)
+ x_t + (1 - share)
@ handin:diffusion/model.py prediction wrong: not told
- self.model(x_t, t)
+ self.model(x_t)
@ handin:diffusion/model.py clamped wrong: [-1, 1]
- noise, x_0.clamp(-1, 1)
+ noise, x_0
* noise, x_0.clamp(-1, 1)
@ handin:diffusion/model.py posterior wrong: coefficients
- self.coef1, t, x_t.shape) * x_0
+ self.coef2, t, x_t.shape) * x_0
@ handin:diffusion/model.py ddpm_step wrong: deviation
- (0.5 * log_variance)
+ log_variance
* (0.5 * log_variance)
@ handin:diffusion/model.py ddpm_step wrong: no noise for t = 0
- z = torch.randn_like(x) if t[0] > 0 else 0
+ z, log_variance = torch.randn_like(x), log_variance.clamp(min=-8)
@ handin:diffusion/model.py ddpm_times differs: ends at t = 1
- self.num_timesteps - 1, -1, -1
+ self.num_timesteps - 1, 0, -1
@ handin:diffusion/model.py ddim_deterministic wrong: two results
- sigma = eta * (
+ sigma = (
@ handin:diffusion/model.py ddim_step wrong: every step
- then.sqrt() * x_0 + direction
+ x_0 + 0 * direction
@ handin:diffusion/model.py ddim_last wrong: index -1
- if tau_isub1 >= 0 else torch.ones(())
+ if True else torch.ones(())
@ handin:diffusion/model.py sample_range wrong: -0.50
-         return (z + 1) / 2
-
-     def sample(
+         return z
+
+     def sample(
@ handin:diffusion/inference.py fid_images wrong: 0.25
- shape) * 255
+ shape)
* shape) * 255
""")
# The same, written otherwise: right all the same.
MANNERS = read(r"""
@ handin:diffusion/model.py prediction
- self.model(x_t, t)
+ self.model(x=x_t, time=t)
@ handin:diffusion/model.py sample_range
- self.model(x_t, t)
+ self.model(x_t, time=t)
@ handin:diffusion/model.py ddim_step
- torch.full((batch,), tau_i)
+ tau_i.repeat(batch)
@ handin:diffusion/model.py ddim_last
- torch.full((batch,), tau_i)
+ tau_i.expand(batch)
@ handin:gan/utils.py interpolation_grid
- 128).cuda()
+ 128).to(gen.device)
@ handin:gan/train.py iterations
- scaler =
+ torch.cuda.current_stream().wait_stream(torch.cuda.Stream(device="cuda"))
+     scaler =
@ gan/networks.py block_up
- self.layers = nn.Sequential(
-             nn.BatchNorm2d(input_channels),
+ self.main = nn.Sequential(
+             nn.BatchNorm2d(input_channels),
""")


@pytest.fixture(scope="session")
def pool():
    return check.Pool()


@pytest.fixture(scope="module")
def verdicts(pool, tmp_path_factory):
    """{slip, mended or not: verdict}; many are tried together, one that another hides alone."""

    def fits(slip: Slip, mended: bool, found: tuple) -> bool:
        word, _, words = slip.words.partition(": ")
        return found[0] == "right" if mended else found[0] == word and words in found[1]

    def of_pack(pack: list[Slip], mended: bool) -> dict:
        half = changed(tmp_path_factory.mktemp("slips"), pack, mended)
        names = {f"{half.name}.{slip.name}": slip for slip in pack}
        found = {(names[n], mended): v for n, v in pool.verdicts([*names], half)}
        if len(pack) > 1:
            lost = [key for key, verdict in found.items() if not fits(*key, verdict)]
            for slip, _ in lost:
                found |= of_pack([slip], mended)
        return found

    mends = [slip for slip in SLIPS if slip.mend]
    both = [(pack, False) for pack in packs(SLIPS)] + [(pack, True) for pack in packs(mends)]
    return {key: verdict for pair in both for key, verdict in of_pack(*pair).items()}


def slip_id(slip):
    return f"{slip.name}-{slip.words}"


@pytest.mark.parametrize("slip", SLIPS, ids=slip_id)
def test_a_slip_is_found_and_named(verdicts, slip):
    expected, _, words = slip.words.partition(": ")
    word, sentence = verdicts[slip, False]
    assert (word, words in sentence) == (expected, True), (word, sentence)


@pytest.mark.parametrize("slip", [slip for slip in SLIPS if slip.mend], ids=slip_id)
def test_each_mend_mends(verdicts, slip):
    """What stands in the sentence is what is applied, and then the row is right."""
    assert verdicts[slip, True][0] == "right", verdicts[slip, True]
    advice = verdicts[slip, False][1].partition("To mend it: ")[2]
    same = difflib.SequenceMatcher(None, slip.mend, advice, autojunk=False).find_longest_match()
    assert same.size >= 8, advice


@pytest.mark.parametrize("slip", MANNERS, ids=slip_id)
def test_other_manners_are_right(pool, tmp_path, slip):
    if slip.name == "block_up":  # an attribute of another name, in both places
        slip = Slip(slip.file, slip.name, "", slip.old, slip.new, "")
        half = changed(tmp_path, [slip])
        path = half / "networks.py"
        text = path.read_text().replace("self.layers(x) + self.ups", "self.main(x) + self.ups")
        path.write_text(text)
    else:
        half = changed(tmp_path, [slip])
    assert pool.run(f"{half.name}.{slip.name}", half) == ("right", "")


def test_every_check_has_a_slip():
    tried = {f"{half_of(slip)[1]}.{slip.name}" for slip in SLIPS}
    assert {one.name for one in checks.CHECKS} - tried == set()
    those = [slip for slip in SLIPS if slip.words.startswith("wrong")]
    assert sum(bool(slip.mend) for slip in those) >= 0.5 * len(those)


def test_this_project_passes(tmp_path, capsys):
    """By the command, as a student runs it; the three kinds of output agree."""
    files = {name: tmp_path / f"rows.{name}" for name in ("json", "csv", "gradescope")}
    options = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    assert check.main(check.get_args([str(ROOT), *options])) == 0
    assert f"judged: gan in {ROOT / 'gan'}, vae in {ROOT / 'vae'}" in capsys.readouterr().out
    rows = json.loads(files["json"].read_text())
    assert len(rows) > 60 and {row["verdict"] for row in rows} == {"right"}
    with open(files["csv"], newline="") as file:
        assert list(csv.DictReader(file)) == rows
    graded = json.loads(files["gradescope"].read_text())
    assert sum(t["score"] for t in graded["tests"]) == pytest.approx(100)
    keys = {"number", "name", "score", "max_score", "status", "output"}
    assert keys == graded["tests"][0].keys() and graded["tests"][0]["status"] == "passed"


def row(question, name, verdict="right", sentence=""):
    return check.Row(question, name, verdict, sentence, name)


def test_one_cause_is_paid_once():
    rows = [row("1.1", "gan.pooling", "wrong", "a"), row("1.1", "gan.scores_alone", "wrong", "b")]
    rows += [row("1.1", "gan.block"), row("2.1", "vae.a", "not there", "a TODO")]
    rows += [row("2.1", "vae.b", "not there", "a TODO"), row("2.1", "vae.c")]
    points = [(t["score"], t["max_score"]) for t in check.gradescope(rows)["tests"]]
    assert points == [(0, 25), (0, 0), (25, 25), (0, 25), (0, 0), (25, 25)]


def test_the_archive_for_gradescope_runs(tmp_path):
    """Its two scripts, in such folders; the installation is not repeated here."""
    archive = tmp_path / "autograder.zip"
    assert check.main(check.get_args(["--autograder", str(archive)])) == 0
    place = tmp_path / "autograder"
    with zipfile.ZipFile(archive) as file:
        file.extractall(place / "source")
    setup = (place / "source/setup.sh").read_text()
    assert "bin/pip install torch torchvision --index-url https://download.pytorch.org" in setup
    script = (place / "source/run_autograder").read_text()
    (place / "results").mkdir()
    (place / "venv/bin").mkdir(parents=True)
    (place / "venv/bin/python").symlink_to(sys.executable)
    for source in (HANDIN / "vae", tmp_path / "results"):
        shutil.rmtree(place / "submission", ignore_errors=True)
        shutil.copytree(source, place / "submission") if source.exists() else (
            place / "submission"
        ).mkdir()
        # By the interpreter itself: a link would look for its packages beside itself.
        text = script.replace("python=venv/bin/python", f"python={sys.executable}")
        environment = {"AUTOGRADER": str(place), "PATH": "/usr/bin:/bin"}
        subprocess.run(["bash", "-c", text], env=environment, check=False, capture_output=True)
        results = json.loads((place / "results/results.json").read_text())
        if source.exists():
            assert len(results["tests"]) > 3 and "not there" in results["output"]
            (place / "results/results.json").unlink()
        else:
            assert results["score"] == 0 and "hand in their .py files" in results["output"]


FROM_TEMPLATE = [
    one.name
    for one in checks.CHECKS
    if one.half == "diffusion"
    or one.group
    or one.name.removeprefix("gan.")
    in ("transform", "schedules", "interpolation_grid", "interpolation_picture", "fid_images")
    or one.name == "vae.preprocessing"
]


@pytest.mark.parametrize("half", ["gan", "vae", "diffusion"])
def test_a_right_handin_of_the_handouts_manner_passes(pool, half):
    names = [name for name in FROM_TEMPLATE if name.startswith(half)]
    found = dict(pool.verdicts(names, HANDIN / half))
    assert found.pop("gan.schedules", ("differs", "verbose"))[0] == "differs"  # verbose=False
    assert {word for word, _ in found.values()} == {"right"}, found


def test_a_question_alone(tmp_path, capsys):
    shutil.copytree(HANDIN / "vae", tmp_path / "vae")
    check.main(check.get_args([str(tmp_path), "--question", "2.3.2"]))
    assert capsys.readouterr().out.startswith("2.3.2")
    assert check.main(check.get_args([str(tmp_path), "--question", "1.5"])) == 2
    assert "expected one of 2.1, 2.2, 2.3.1, 2.3.2" in capsys.readouterr().err


LOSSES = """
def compute_generator_loss(discrim_fake):
    return {gen}


def compute_discriminator_loss({names}):
    {disc}
"""
WGAN = "real, fake, disc, discrim_real, discrim_fake, lamb"
SLOPE = """mixed = 0.5 * real + 0.5 * fake
    slope = __import__("torch").autograd.grad(disc(mixed).sum(), mixed, create_graph=True)[0]
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return discrim_fake.mean() - discrim_real.mean() + lamb * penalty"""
FIVE = "discrim_real, discrim_fake, discrim_interp, interp, lamb"
BCE = """real, fake = -discrim_real, discrim_fake
    return real.exp().add(1).log().mean() + fake.exp().add(1).log().mean()"""


def test_losses_are_found_by_what_they_are(pool, tmp_path):
    """In files of other names; one makes its own interpolates, from fakes with gradients."""
    shutil.copytree(HANDIN / "gan", tmp_path / "gan")
    for name, gen, names, disc in (
        ("vanilla_gan", "(-discrim_fake).exp().add(1).log().mean()", FIVE, BCE),
        ("wgan_gp", "-discrim_fake.mean()", WGAN, SLOPE),
    ):
        text = LOSSES.format(gen=gen, names=names, disc=disc)
        (tmp_path / "gan" / f"{name}.py").write_text(text)
    names = ["gan.wgan", "gan.penalty_norm", "gan.gan_discriminator", "gan.gan_generator"]
    found = dict(pool.verdicts(names, tmp_path / "gan"))
    assert {word for word, _ in found.values()} == {"right"}, found
    assert pool.run("gan.lsgan_generator", tmp_path / "gan")[0] == "not there"


def test_a_loss_that_is_maximised_is_right(pool, tmp_path):
    shutil.copytree(ROOT / "gan", tmp_path / "gan", ignore=shutil.ignore_patterns("data*"))
    for file, old, new in (
        ("q1_5.py", "    return loss + lamb * ", "    return -loss - lamb * "),
        ("q1_5.py", "        return loss\n", "        return -loss\n"),
        (
            "train.py",
            "torch.optim.Adam(module.parameters(),",
            "torch.optim.Adam(module.parameters(), maximize=steps > 100_000,",
        ),
    ):
        path = tmp_path / "gan" / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new).replace("fused=True", "fused=False"))
    found = dict(pool.verdicts(["gan.wgan", "gan.penalty_norm"], tmp_path / "gan"))
    assert {word for word, _ in found.values()} == {"right"}, found


def test_what_follows_from_a_todo_is_not_there(pool, tmp_path):
    """A template's networks are None, which shows far from them."""
    todo, empty = read(r"""
@ handin:diffusion/model.py clamped
- noise = self.model(x_t, t)
+ raise NotImplementedError
@ vae/model.py pictures
- return self.deconvs(
+ x = None
+         return x and (
""")
    for slip in (todo, empty):
        half = changed(tmp_path, [slip])
        assert pool.run(f"{half.name}.{slip.name}", half)[0] == "not there"


def test_a_handin_that_hangs_crashes_or_writes_costs_its_own_row(pool, tmp_path):
    folder = tmp_path / "gan"
    shutil.copytree(HANDIN / "gan", folder)
    utils = folder / "utils.py"
    for body, words in (
        ("while True: pass", "not done after 3 s"),
        ("import os; os._exit(7)", "exit code 7"),
        ("import sys; sys.exit('no')", "SystemExit: no"),
        ("bytearray(64 * 2**30)", "MemoryError"),
        ("import urllib.request; urllib.request.urlopen('http://localhost')", "no network"),
    ):
        hung = f"\n\ndef interpolate_latent_space(gen, path):\n    {body}\n"
        utils.write_text((HANDIN / "gan" / "utils.py").read_text() + hung)
        names = ["gan.interpolation_grid", "gan.transform"]
        found = dict(pool.verdicts(names, folder, 3))
        word, sentence = found["gan.interpolation_grid"]
        assert word == "cannot run" and words in sentence, (body, sentence)
        assert found["gan.transform"] == ("right", "")
    before = sorted(folder.rglob("*"))
    utils.write_text((HANDIN / "gan" / "utils.py").read_text())
    assert pool.run("gan.sample_range", folder)[0] == "right"  # it writes data_check/
    assert [p for p in sorted(folder.rglob("*")) if p not in before] == []


SURROUNDINGS = """
import faulthandler, multiprocessing, sys, threading, time
import matplotlib
sys.stdout.reconfigure(line_buffering=True)
sys.stdout.buffer.write(b"hello")
faulthandler.enable()
matplotlib.use("TkAgg")
multiprocessing.set_start_method("spawn")
threading.Thread(target=time.sleep, args=(100,)).start()
"""


def test_right_code_is_right_whatever_surrounds_it(pool, tmp_path):
    """A thread that lives on, a package called data, an import that never ends elsewhere."""
    folder = tmp_path / "gan"
    shutil.copytree(HANDIN / "gan", folder)
    train = folder / "train.py"
    train.write_text(SURROUNDINGS + "from data.helper import answer\n" + train.read_text())
    (folder / "data").mkdir()
    (folder / "data/helper.py").write_text("answer = 42\n")
    (folder / "endless.py").write_text("while True: pass\n")
    found = dict(pool.verdicts(["gan.transform", "gan.schedules", "gan.iterations"], folder, 3))
    assert found["gan.transform"] == found["gan.iterations"] == ("right", ""), found


def test_folders_without_a_handin(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/answer.ipynb").write_text("{}")
    lost = ["--json", str(tmp_path / "nowhere" / "rows.json")]
    assert check.main(check.get_args([str(HANDIN), *lost])) == 2  # before a minute of work
    assert "no folder" in capsys.readouterr().err
    for folder, words in ((tmp_path / "nowhere", "not a folder"), (tmp_path / "empty", "notebook")):
        assert check.main(check.get_args([str(folder)])) == 2
        error = capsys.readouterr().err
        assert error.startswith("check.py: error: ") and error.count("\n") == 1 and words in error


def test_halves_are_found_at_any_depth_and_flat(tmp_path):
    shutil.copytree(HANDIN, tmp_path / "hw3" / "code")
    assert set(check.find_halves(tmp_path)) == {"gan", "vae", "diffusion"}
    flat = tmp_path / "flat"
    shutil.copytree(HANDIN / "gan", flat)
    assert check.find_halves(flat) == {"gan": flat}
    shutil.copytree(HANDIN / "gan", tmp_path / "two" / "a_backup")  # of two versions
    shutil.copytree(HANDIN / "gan", tmp_path / "two" / "gan")
    assert check.find_halves(tmp_path / "two") == {"gan": tmp_path / "two" / "gan"}
