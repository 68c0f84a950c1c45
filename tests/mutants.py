"""Does the suite find small slips? Each of these is put into a copy, and its tests are run there.

    python tests/mutants.py                     all of them, half an hour on two cores
    python tests/mutants.py gan/train.py vae    those of some files or folders

Prints each survivor and the share that was found; exit code 1 where a slip survives that is not
explained, 2 where one no longer applies, or where a test fails without any. The tests that should
see a slip stand beside its file.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import forks  # noqa: F401 (loads what takes long, once for all)
import pytest
from slips import ROOT, Slip, read

SECONDS = 600  # that the tests of a slip may take; one that never ends is found
LEFT = shutil.ignore_patterns("__pycache__", ".*", "data", "data_*", "datasets")

SLIPS = read(r"""
@ gan/q1_3.py gan/test_losses.py
- return F.softplus(-discrim_fake).mean()
+ return F.softplus(discrim_fake).mean()
@ gan/q1_3.py gan/test_losses.py
- + F.softplus(discrim_fake).mean()
+ + F.softplus(-discrim_fake).mean()
@ gan/q1_3.py gan/test_losses.py
- + F.softplus(discrim_fake).mean()
+ + F.softplus(discrim_fake).sum()
@ gan/q1_3.py gan/test_losses.py
- return F.softplus(-discrim_real).mean()
+ return F.softplus(-2 * discrim_real).mean()
@ gan/q1_4.py gan/test_losses.py
- return 0.5 * (discrim_fake - 1).square().mean()
+ return 0.5 * (discrim_fake + 1).square().mean()
@ gan/q1_4.py gan/test_losses.py
- return 0.5 * (discrim_fake - 1).square().mean()
+ return (discrim_fake - 1).square().mean()
@ gan/q1_4.py gan/test_losses.py
- discrim_fake.square().mean()
+ (discrim_fake + 1).square().mean()
@ gan/q1_4.py gan/test_losses.py
- return 0.5 * (discrim_real - 1)
+ return (discrim_real - 1)
@ gan/q1_5.py gan/test_losses.py
- return -discrim_fake.mean()
+ return discrim_fake.mean()
@ gan/q1_5.py gan/test_losses.py
- discrim_fake.mean() - discrim_real.mean()
+ discrim_real.mean() - discrim_fake.mean()
@ gan/q1_5.py gan/test_losses.py
- .flatten(1).norm(dim=1)
+ .norm(dim=1)
@ gan/q1_5.py gan/test_losses.py
- .flatten(1).norm(dim=1)
+ .norm()
@ gan/q1_5.py gan/test_losses.py
- interp, create_graph=True)
+ interp)
@ gan/q1_5.py gan/test_losses.py
- (norm - 1).square()
+ (norm - 1).clamp(min=0).square()
@ gan/q1_5.py gan/test_losses.py
- (norm - 1).square().mean()
+ (norm.mean() - 1).square()
@ gan/q1_5.py gan/test_losses.py
- return loss + lamb *
+ return loss + 10 *
@ gan/train.py gan/test_step.py
- if iters % generator_every == 0:
+ if (iters + 1) % generator_every == 0:
@ gan/train.py gan/test_step.py
- torch.cat([real, fake])
+ torch.cat([fake, real])
@ gan/train.py gan/test_step.py
- eps * fake + (1 - eps) * real
+ fake + (1 - eps) * real
@ gan/train.py gan/test_step.py
- torch.rand(batch_size, 1, 1, 1,
+ torch.rand(1, 1, 1, 1,
@ gan/train.py gan/test_step.py
- sched_disc.step()
+ pass
@ gan/train.py gan/test_step.py
- sched_gen.step()
+ pass
@ gan/train.py gan/test_run.py
- mean.lerp_(weight, 1 - decay)
+ mean.lerp_(weight, decay)
@ gan/train.py gan/test_step.py
- lr=2e-4
+ lr=1e-4
@ gan/train.py gan/test_step.py
- betas=(0.0, 0.9)
+ betas=(0.5, 0.9)
@ gan/train.py gan/test_step.py
- 500_000)
+ 50_000)
@ gan/train.py gan/test_step.py
- max(0.0, 1 - step / steps)
+ 1 - step / steps
@ gan/train.py gan/test_step.py
- with precision(wide=True):
+ with precision():
@ gan/train.py gan/test_step.py
- precision.scaler.scale(loss).backward()
-
-     terms
+ loss.backward()
+
+     terms
@ gan/train.py gan/test_run.py gan/test_step.py
- channels_last).train() for
+ channels_last).eval() for
@ gan/train.py gan/test_step.py gan/test_networks.py
- with frozen(disc):
+ if True:
@ gan/train.py gan/test_step.py
-                     z = torch.randn(batch_size, LATENT_DIM, generator=rng, device=device)
-                     optim_gen
+                     optim_gen
@ gan/train.py gan/test_run.py
- FIRST_LOOK = 50, 100
+ FIRST_LOOK = 50, 200
@ gan/train.py gan/test_run.py
- SHOWN, FIRST_LOOK = 50
+ SHOWN, FIRST_LOOK = 500
@ gan/train.py gan/test_run.py
- if iters > 0 and (at_end
+ if (at_end
@ gan/train.py gan/test_run.py
- and not logger.has(iters):
+ :
@ gan/train.py gan/test_run.py
- (options.score_period or log_period)
+ log_period
@ gan/train.py gan/test_run.py
- torch.Generator(device).manual_seed(options.seed)
+ torch.Generator(device).manual_seed(0)
@ gan/common/run.py gan/test_run.py gan/test_strangers.py
- if time.monotonic() - self.saved > 60 *
+ if 0 > 60 *
@ gan/train.py gan/test_step.py
- "gradient_norm": norm.mean()
+ "gradient_norm": norm.max()
@ gan/train.py gan/test_run.py
- if average is not None:
-                         update
+ if False:
+                         update
@ gan/train.py gan/test_strangers.py gan/test_run.py
- if "lamb" in options.given and not uses_interp:
+ if False:
@ gan/networks.py gan/test_networks.py
- return F.interpolate(x, scale_factor=self.upscale_factor, mode="nearest")
+ return F.pixel_shuffle(x.repeat(1, self.upscale_factor**2, 1, 1), self.upscale_factor)
@ gan/networks.py gan/test_networks.py
- self.conv(avg_pool2d(x, self.downscale_ratio))
+ self.conv(F.max_pool2d(x, self.downscale_ratio))
@ gan/networks.py gan/test_networks.py
- kernel_size, padding=1, bias=False),
+ kernel_size, padding=1),
@ gan/networks.py gan/test_networks.py
- self.layers(x) + self.downsample_residual(x)
+ self.layers(x)
@ gan/networks.py gan/test_networks.py
- features.sum(dim=(2, 3))
+ features.mean(dim=(2, 3))
@ gan/networks.py gan/test_networks.py
- nn.Tanh()
+ nn.Hardtanh()
@ gan/networks.py gan/test_networks.py
- z = torch.randn(n_samples
+ z = 0.7 * torch.randn(n_samples
@ gan/networks.py gan/test_networks.py
- norm.momentum = None  # a plain mean
+ norm.momentum = 0.1
@ gan/networks.py gan/test_networks.py
- norm.momentum = momentum
+ pass
@ gan/networks.py gan/test_networks.py gan/test_step.py
- parameter.requires_grad_(asked)
+ parameter.requires_grad_(True)
@ gan/networks.py gan/test_networks.py
- return x + self.layers(x)
+ return x.relu() + self.layers(x)
@ gan/double_backward.py gan/test_double_backward.py
- grad.sum((0, 2, 3)) if of_b
+ grad.mean((0, 2, 3)) if of_b
@ gan/double_backward.py gan/test_double_backward.py
- / ratio**2
+ / ratio
@ gan/double_backward.py gan/test_double_backward.py
- threshold_backward(t, x.detach(), 0)
+ threshold_backward(t, x.detach(), 0.1)
@ gan/double_backward.py gan/test_double_backward.py
- of_w = node and
+ of_w = None and
@ gan/fid.py gan/test_fid.py
- antialias=True
+ antialias=False
@ gan/fid.py gan/test_fid.py
- return images.clamp(0, 255)
+ return images
@ gan/fid.py gan/test_fid.py
- / (count - 1), count
+ / count, count
@ gan/fid.py gan/test_fid.py
- cov2.trace() - 2 * trace
+ cov2.trace() - trace
@ gan/fid.py gan/test_fid.py
- / a.shape[1] + 1) ** 3
+ / a.shape[1] + 1) ** 2
@ gan/fid.py gan/test_fid.py
- pairs / (count * (count - 1))
+ pairs / count**2
@ gan/fid.py gan/test_fid.py
- .kthvalue(k + 1)
+ .kthvalue(k)
@ gan/fid.py gan/test_fid.py
- images = images.add(1).mul(127.5)
+ images = images.add(1).mul(127.5).round()
@ gan/fid.py gan/test_fid.py
- train=mode == "train"
+ train=True
@ gan/fid.py gan/test_fid.py
- .manual_seed(seed + 1)
+ .manual_seed(seed + 2)
@ gan/fid.py gan/test_fid.py
- order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
+ order = torch.arange(len(images))
@ gan/fid.py gan/test_fid.py
- reestimate_statistics(gen, ESTIMATE)
+ pass
@ gan/fid.py gan/test_fid.py
- (z)[: num_gen - start]
+ (z)
@ gan/fid.py gan/test_fid.py
- return _share_among(fake, real, k), _share_among(real, fake, k)
+ return _share_among(real, fake, k), _share_among(fake, real, k)
@ gan/fid.py gan/test_fid.py
- random.Random(0).sample(paths, len(paths))
+ paths
@ gan/fid.py gan/test_fid.py
- if not torch.isfinite(images).all():
+ if False:
@ gan/utils.py gan/test_utils.py
- z[:, :2] = torch.cartesian_prod
+ z[:, [1, 0]] = torch.cartesian_prod
@ gan/utils.py gan/test_utils.py
- steps = torch.linspace(-1, 1, 10
+ steps = torch.linspace(-1, 1.1, 10
@ gan/utils.py gan/test_utils.py
- spherical(corners[0], corners[2], down)
+ spherical(corners[0], corners[1], down)
@ gan/utils.py gan/test_utils.py gan/test_run.py
- latent_grid(device, samples[0])
+ latent_grid(device, samples[1])
@ gan/utils.py gan/test_utils.py gan/test_fid.py
- row = score(gen, images, num_gen, mode, seed,
+ row = score(gen, images, num_gen, mode, 0,
@ gan/utils.py gan/test_utils.py
- if merged.score_period and merged.score_period % merged.log_period:
+ if False:
@ gan/logger.py gan/test_run.py
- row["score"] < old["score"]
+ row["score"] > old["score"]
@ gan/logger.py gan/test_run.py
- scored = self.rows_like(last)
+ scored = self.rows_like(last)[::-1]
@ gan/logger.py gan/test_run.py
- RATES = ("lr_discriminator", "lr_generator")
+ RATES = ("lr_generator", "lr_discriminator")
@ gan/logger.py gan/test_run.py
- ("sched_disc", "sched_gen")
+ ("sched_gen", "sched_gen")
@ gan/logger.py gan/test_run.py
- self.means.clear()
+ pass
@ gan/logger.py gan/test_run.py
- if best.is_file():
+ if False:
@ gan/logger.py gan/test_run.py
- quality=True)
+ quality=False)
@ gan/logger.py gan/test_run.py
- num_gen[1], quality
+ num_gen[0], quality
@ gan/logger.py gan/test_run.py
- self.run.check_finite()
+ pass
@ gan/logger.py gan/test_run.py
- same = ("kind", "score_name", "features", "fid_mode", "num_gen")
+ same = ("kind", "score_name", "features", "fid_mode")
@ gan/logger.py gan/test_run.py
- quality and own, self.run.check_signal)
+ quality and own)
@ gan/resize_dataset.py gan/test_setup.py
- "Mallard_0130_76836.jpg"
+ "Mallard_0130_76837.jpg"
@ gan/resize_dataset.py gan/test_setup.py
- quality=quality)
+ quality=75)
@ gan/resize_dataset.py gan/test_setup.py
- Resampling.BICUBIC
+ Resampling.BILINEAR
@ gan/resize_dataset.py gan/test_setup.py
- if there.size == (res, res):
+ if there.size:
@ vae/train.py vae/test_run.py
- if Run.last_signal:
+ if False:
@ vae/options.py vae/test_run.py
- resume_line(*words, *names)
+ resume_line(*names)
@ vae/train.py vae/test_run.py vae/test_losses.py
- if "beta" in parameters:
+ if False:
@ vae/losses.py vae/test_run.py
- drawn["reconstruction"] = tried(reconstruction, model, x, what=what, name=kind)
+ pass
@ gan/train.py gan/test_run.py
- "transforms": list(steps)}
+ "transforms": []}
@ gan/train.py gan/test_run.py
- or asked not in ([], ["self"])
+ or asked is None
@ gan/evaluate.py gan/test_strangers.py
- and known.get("fid") == "off"
+ and False
@ gan/common/run.py gan/test_run.py
- suppress(InputError):  # what cannot be read goes
+ suppress():
@ gan/common/run.py gan/test_strangers.py
- rebased(config, folder, ".")
+ config
@ gan/evaluate.py gan/test_run.py gan/test_strangers.py
- known = as_options(known, make_parser(), folder)
+ pass
@ gan/common/__init__.py gan/test_utils.py vae/test_run.py
- else bool | float
+ else bool
@ gan/common/files.py gan/test_run.py
- or not shape[0]:
+ or False:
@ report/check.py report/test_check.py
- in_order([*rows, *left])
+ in_order(rows)
@ gan/dataset.py gan/test_dataset.py gan/test_run.py
- if self.cursor + self.batch_size > len(self.order):
+ if self.cursor + self.batch_size >= len(self.order):
@ gan/dataset.py gan/test_dataset.py
- return known and all(
+ return True or all(
@ gan/dataset.py gan/test_strangers.py
- Image.new("RGBA", image.size, "white")
+ Image.new("RGBA", image.size, "black")
@ gan/dataset.py gan/test_dataset.py
- ours = type(dataset).__getitem__ is Dataset.__getitem__
+ ours = True
@ gan/common/files.py gan/test_setup.py
- elif digest_of(archive) != md5:
+ elif False:
@ gan/mlp_gan.py gan/test_mlp_gan.py
- REAL_LABEL = 0.9
+ REAL_LABEL = 1.0
@ gan/mlp_gan.py gan/test_mlp_gan.py
- *adam(disc, 4e-4), *adam(gen, 1e-4)
+ *adam(disc, 1e-4), *adam(gen, 4e-4)
@ gan/mlp_gan.py gan/test_mlp_gan.py
- generator_every=1,
+ generator_every=5,
@ gan/common/run.py gan/test_run.py gan/test_strangers.py
- - (self.state["seconds"] if self.state else 0.0)
+ - 0.0
@ gan/common/run.py gan/test_run.py gan/test_strangers.py
- > 60 * self.settings["save_minutes"]
+ > 36000 * self.settings["save_minutes"]
@ gan/common/run.py gan/test_run.py gan/test_strangers.py
- purge_step=first if self.state else None
+ purge_step=None
@ vae/common/run.py vae/test_run.py
- + (self.layout.columns[0] == "iteration")
+ + 1
@ gan/common/run.py gan/test_run.py gan/test_strangers.py
- self.check_finite()
-         rng
+ rng
@ gan/common/run.py gan/test_run.py gan/test_strangers.py
- signal.signal(number, previous[number])
+ pass
@ gan/common/run.py gan/test_run.py gan/test_strangers.py
- torch.isfinite(tensor).all() for tensor in tensors
+ torch.tensor(True) for tensor in tensors
@ gan/common/run.py gan/test_run.py
- torch.set_rng_state(state["rng"]["cpu"])
+ pass
@ gan/common/run.py gan/test_run.py gan/test_strangers.py
- if self.step + under_way > total:
+ if False:
@ gan/common/run.py gan/test_utils.py
- settings = rebased(settings, state.parent, ".")
+ pass
@ gan/common/run.py gan/test_run.py gan/test_strangers.py
- folder.rmdir()
+ pass
@ gan/common/measure.py gan/test_run.py gan/test_utils.py
- part.training = mode
+ pass
@ gan/common/measure.py gan/test_run.py gan/test_utils.py
- buffer.copy_(before)
+ pass
@ gan/common/run.py gan/test_run.py gan/test_strangers.py
- if not math.isfinite(v)]
+ if False]
@ gan/common/files.py gan/test_setup.py
- path.unlink()
-             continue
+ pass
+             continue
@ gan/common/files.py gan/test_strangers.py gan/test_run.py
- fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
+ fcntl.LOCK_SH | (0 if wait else fcntl.LOCK_NB)
@ gan/common/files.py gan/test_utils.py
- key=lambda path: int(re.sub(r"\D", "", path.name)))
+ key=lambda path: path.name)
@ gan/common/files.py gan/test_run.py gan/test_utils.py
- .add(1).div(2).clamp(0, 1)
+ .add(1).div(2).clamp(0.01, 1)
@ gan/common/device.py gan/test_step.py gan/test_gpu.py gan/test_strangers.py
- if self.dtype is None or (wide and self.dtype == torch.float16):
+ if self.dtype is None:
@ gan/common/__init__.py gan/test_strangers.py test_wrong_inputs.py
- enough = got > minimum if above else got >= minimum
+ enough = got >= minimum
@ vae/losses.py vae/test_losses.py
- .square().sum(dim=(1, 2, 3)).mean()
+ .square().mean()
@ vae/losses.py vae/test_losses.py
- return kl_terms(mu, log_std).sum(dim=1).mean()
+ return kl_terms(mu, log_std).sum()
@ vae/losses.py vae/test_losses.py
- + (2 * log_std).exp() -
+ + log_std.exp() -
@ vae/losses.py vae/test_losses.py
- return mu + log_std.exp() * noise
+ return mu + (0.5 * log_std).exp() * noise
@ vae/losses.py vae/test_losses.py
- kl.clamp(min=free_bits)
+ kl.clamp(max=free_bits)
@ vae/losses.py vae/test_losses.py
- loss = recon_loss + beta * kl.clamp
+ loss = recon_loss + kl.clamp
@ vae/losses.py vae/test_losses.py
- mu, log_std = (output.float() for output in model.encoder(x))  # (B, latent_size) each
-     z = reparameterise(mu, log_std)
-     recon_loss = reconstruction_error(model.decoder(z), x)
-     kl_loss
+ mu, log_std = model.encoder(x)
+     z = reparameterise(mu, log_std)
+     recon_loss = reconstruction_error(model.decoder(z), x)
+     kl_loss
@ vae/flows.py vae/test_losses.py
- return recon_loss + beta * kl_loss
+ return recon_loss + kl_loss
@ vae/flows.py vae/test_losses.py
- kl_loss = (log_q0 - log_det - log_p).mean()
+ kl_loss = (log_q0 + log_det - log_p).mean()
@ vae/schedules.py vae/test_losses.py
- target_val * min(1.0, epoch / max_epochs)
+ target_val * min(1.0, epoch / (max_epochs - 1))
@ vae/schedules.py vae/test_losses.py
- target_val * min(1.0, step / anneal_steps)
+ min(1.0, step / anneal_steps)
@ vae/schedules.py vae/test_losses.py
- / (total_steps / cycles) / ratio)
+ / (total_steps / cycles))
@ vae/train.py vae/test_run.py vae/test_losses.py
- model.parameters(), lr=lr, fused
+ model.parameters(), lr=1e-3, fused
@ vae/train.py vae/test_run.py
- beta,
-                 grad_clip,
+ beta,
+                 1,
@ vae/train.py vae/test_losses.py
- torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
+ pass
@ vae/train.py vae/test_losses.py
- with measuring(model, seed=0) as device
+ with measuring(model) as device
@ vae/train.py vae/test_run.py
- count_active_latents(model, val_loader, precision)
+ count_active_latents(model, train_loader, precision)
@ vae/train.py vae/test_run.py
- if (epoch + 1) % eval_interval == 0 and getattr(model, "variational", False):
+ if getattr(model, "variational", False):
@ vae/train.py vae/test_run.py
- first_step=epoch * steps + train_loader.taken
+ first_step=epoch * steps
@ vae/train.py vae/test_losses.py
- | detached, len(x))
+ | detached)
@ vae/train.py vae/test_run.py
- torch.manual_seed(options.seed + 1)
+ pass
@ vae/train.py vae/test_run.py
- last_step = (epoch + 1) * steps - 1
+ last_step = epoch * steps
@ vae/logger.py vae/test_run.py
- run.parts["means"].clear()
+ pass
@ vae/utils.py vae/test_data.py vae/test_losses.py
- x = 2 * x.to(device).float() - 1
+ x = x.to(device).float()
@ vae/utils.py vae/test_data.py vae/test_losses.py
- if not (0 <= low and high <= 1):
+ if False:
@ vae/utils.py vae/test_losses.py
- (means.var(dim=0) > threshold)
+ (means.var(dim=1) > threshold)
@ vae/utils.py vae/test_run.py vae/test_data.py vae/test_losses.py
- framed[::2] = torch.where
+ framed[1::2] = torch.where
@ vae/dataset.py vae/test_data.py
- while self.cursor < len(self.images):
+ while self.cursor + self.batch_size <= len(self.images):
@ vae/dataset.py vae/test_data.py
- self.order = torch.randperm(count, generator=self.generator, device=device)
+ pass
@ vae/dataset.py vae/test_data.py
- if not path.is_file() or digest_of(path) != md5:
+ if not path.is_file():
@ vae/model.py vae/test_losses.py
- self.deconvs = nn.Sequential(
-             nn.ReLU(),
+ self.deconvs = nn.Sequential(
@ vae/model.py vae/test_losses.py
- mu, log_std = super()
+ log_std, mu = super()
@ vae/model.py vae/test_losses.py
- nn.Conv2d(128, 256, kernel_size=3, stride=2, padding=1),
+ nn.Conv2d(128, 256, kernel_size=3, stride=2, padding=1), nn.ReLU(),
@ vae/logger.py vae/test_run.py
- f"{part}_{term}", math.nan) for row in rows]
+ f"val_{term}", math.nan) for row in rows]
@ vae/evaluate.py vae/test_run.py
- amp_enabled = not args.disable_amp and recorded.get("number_format") != "float32"
+ amp_enabled = not args.disable_amp
@ vae/diffusion/process.py vae/test_ddpm.py
- + 0.008) / 1.008
+ + 0.08) / 1.08
@ vae/diffusion/process.py vae/test_ddpm.py
- torch.randint(1, diffusion.timesteps + 1
+ torch.randint(1, diffusion.timesteps
@ vae/diffusion/process.py vae/test_ddpm.py
- variance = (1 - before) / (1 - now) * (1 - alpha)
+ variance = 1 - alpha
@ vae/diffusion/process.py vae/test_ddpm.py
- (1 - then - sigma.square())
+ (1 - then)
@ vae/diffusion/process.py vae/test_ddpm.py
- return x0.clamp(-1, 1).to(x.dtype)
+ return x0.to(x.dtype)
@ vae/diffusion/process.py vae/test_ddpm.py
- alpha_bar.sqrt() * noise - (1 - alpha_bar)
+ alpha_bar.sqrt() * noise + (1 - alpha_bar)
@ vae/diffusion/unet.py vae/test_ddpm.py
- self.conv1(F.silu(self.norm1(x)))
+ self.conv1(self.norm1(x))
@ vae/diffusion/unet.py vae/test_ddpm.py
- * (1 + scale) + shift
+ * scale + shift
@ vae/diffusion/unet.py vae/test_ddpm.py
- self.conv2 = zeroed(nn.Conv2d(channels, channels, kernel_size=3, padding=1))
+ self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
@ vae/diffusion/unet.py vae/test_ddpm.py
- -math.log(10_000)
+ -math.log(1_000)
@ vae/diffusion/unet.py vae/test_ddpm.py
- x = F.pixel_unshuffle(x, 2)
+ x = F.pixel_unshuffle(x.flip(-1), 2)
@ vae/ddpm.py vae/test_ddpm.py
- decay = min(self.decay, (1 + self.count) / (10 + self.count))
+ decay = self.decay
@ vae/ddpm.py vae/test_ddpm.py
- get_val_metrics(average.module, loss
+ get_val_metrics(model, loss
@ report/questions.py report/test_grade.py
- met = self.measured <= limit if
+ met = self.measured < limit if
@ report/questions.py report/test_grade.py
- if row["epoch"] == 19), run
+ if row["epoch"] == 20), run
@ report/questions.py report/test_grade.py
- nearest = max(answers
+ nearest = min(answers
@ report/questions.py report/test_grade.py
- sorted(comparable, key=lambda grade: grade.measured)
+ comparable[-1:]
@ report/recheck.py report/test_class.py
- OFF = 0.005
+ OFF = 0.15
@ report/classroom.py report/test_class.py
- (WRONG, NOT_THERE, CANNOT_RUN) if word
+ (CANNOT_RUN, NOT_THERE, WRONG) if word
@ report/classroom.py report/test_class.py
- if k != "seconds")
+ if k)
@ report/classroom.py report/test_class.py
- min(rank, best.get(row["student"], rank))
+ rank
@ report/run_folder.py report/test_report.py report/test_grade.py
- if row["num_gen"] == rows[-1]["num_gen"]]
+ if row["num_gen"]]
@ report/run_folder.py report/test_grade.py report/test_class.py
- if not (rising or final) or now > length:
+ if not (rising or final):
@ report/run_folder.py report/test_grade.py
- sums["train"] = row["beta"]
+ pass
@ report/parts.py report/test_report.py
- f"{mean:.2f} ± {statistics.stdev(values):.2f}"
+ f"{mean:.2f} ± {statistics.pstdev(values):.2f}"
@ report/build_report.py report/test_report.py
- not parts <= empty if parts
+ True if parts
@ report/check.py report/test_check.py
- if CAUSES.get(row.name) in failed or row.sentence in failed.values():
+ if False:
@ report/checks/gan.py report/test_check.py
- if abs(mean) > 0.05 or abs(std - 1) > 0.05
+ if abs(mean) > 0.05 or abs(std - 1) > 0.5
@ report/checks/vae.py report/test_check.py
- if z.std(0).max() < 1e-6:
+ if False:
@ report/checks/gan.py report/test_check.py
- if (z[:, 2:] - z[:1, 2:]).abs().max() > 1e-6:
+ if False:
@ report/checks/gan.py report/test_check.py
- if asked.get("num_gen") != 300:
+ if False:
@ report/checks/worker.py report/test_check.py
- lost = those if told == "shared begins" else those[:1]
+ lost = those
""")
# Survivors that are none: (file, what stands there) -> why.
EXPLAINED: dict[tuple[str, str], str] = {}

# What a student may write, put into this project or into a right hand-in: FILE, the check that sees
# it, verdict: words of its sentence. tests/report/test_check.py tries them.
HANDINS = read(r"""
@ gan/networks.py upsampling wrong: handout's
- return F.interpolate(x, scale_factor=self.upscale_factor, mode="nearest")
+ return F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2)
* return F.interpolate(x, scale_factor=2, mode="nearest")
@ gan/networks.py upsampling wrong: bilinear
- return F.interpolate(x, scale_factor=self.upscale_factor, mode="nearest")
+ return F.interpolate(x, scale_factor=self.upscale_factor, mode="bilinear")
* return F.pixel_shuffle(x.repeat_interleave(4, dim=1), 2)
@ gan/networks.py upsampling wrong: comes first
- return self.conv(self._upsample(x))
+ return self._upsample(self.conv(x))
* return self.conv(self._upsample(x))
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
@ gan/networks.py latents wrong: standard deviation 1.2
- return self.forward_given_samples(z.to(weight.dtype))
+ return self.forward_given_samples(1.3 * z)
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
@ gan/networks.py score_of_sum wrong: no ReLU
- ResBlock(128), ReLU()
+ ResBlock(128)
* ResBlock(128), nn.ReLU()
@ gan/networks.py block wrong: negative numbers reach the 3x3 convolution 2
- ReLU(),
-             Conv2d(n_filters, n_filters, kernel_size, padding=1),
+ Conv2d(n_filters, n_filters, kernel_size, padding=1),
* nn.ReLU(),
*             Conv2d(n_filters, n_filters, kernel_size, padding=1),
@ gan/networks.py block cannot run: unsupported operand
- return x + self.layers(x)
+ return x + self.layers
@ gan/train.py transform differs: mirrored
- transforms.Compose([
+ transforms.Compose([transforms.RandomHorizontalFlip(),
@ gan/train.py transform wrong: 1.00, 0.00, -1.00
- (0.5,) * 3)])
+ (-0.5,) * 3)])
* (0.5,) * 3)])
@ gan/train.py transform wrong: 0.00, 0.50, 1.00
- , transforms.Normalize((0.5,) * 3, (0.5,) * 3)])
+ ])
* , transforms.Normalize((0.5,) * 3, (0.5,) * 3) ])
@ gan/train.py optimizers wrong: (0.5, 0.9)
- betas=(0.0, 0.9)
+ betas=(0.5, 0.9)
@ gan/train.py optimizers wrong: amsgrad
- fused=True)
+ amsgrad=True)
@ gan/train.py optimizers wrong: both optimizers are the discriminator's
- adam_and_decay(gen, 100_000)
+ adam_and_decay(disc, 100_000)
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
- with torch.no_grad(), precision():  # this step does not train the generator
+ with precision():
@ gan/train.py interpolates wrong: off the line
- torch.rand(batch_size, 1, 1, 1
+ torch.randn(batch_size, 1, 1, 1
* torch.rand(len([0] * batch_size), 1, 1, 1
@ gan/train.py interpolates wrong: off the line
- torch.rand(batch_size, 1, 1, 1
+ torch.rand(batch_size, 3, 32, 32
@ gan/train.py interpolates wrong: off the line
- torch.rand(batch_size, 1, 1, 1
+ torch.rand(batch_size, 3, 1, 1
* torch.rand(len([0] * batch_size), 1, 1, 1
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
@ gan/q1_4.py lsgan_generator wrong: which is the fakes'
- return 0.5 * (discrim_fake - 1)
+ return 0.5 * discrim_fake
* return 0.5 * (discrim_fake - 1)
@ gan/q1_4.py lsgan_generator differs: as the paper has it
- def compute_generator_loss(discrim_fake: Tensor) -> Tensor:
+ def compute_discriminator_loss(discrim_real, discrim_fake, *rest):
+     return 0.5 * (discrim_real - 1).square().mean() + 0.5 * (discrim_fake + 1).square().mean()
+
+
+ def compute_generator_loss(discrim_fake: Tensor) -> Tensor:
+     return 0.5 * discrim_fake.square().mean()
+
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
@ vae/model.py encoder_layers wrong: a Dropout
- nn.Conv2d(32, 64, kernel_size=3
+ nn.Dropout(0.1), nn.Conv2d(32, 64, kernel_size=3
@ vae/model.py encoder_layers wrong: padding (0, 0)
- kernel_size=3, stride=1, padding=1)
+ kernel_size=3, stride=1, padding=0)
@ vae/model.py encoder_layers wrong: convolution 1
- nn.Conv2d(32, 64, kernel_size=3
+ nn.Conv2d(32, 64, kernel_size=5
@ vae/model.py encoder_layers wrong: after the last
- features = 256 * (height // 8)
+ self.convs.append(nn.ReLU())
+         features = 256 * (height // 8)
@ vae/model.py encoder_layers wrong: between convolutions 0 and 1
- padding=1),  # (B, 32, 32, 32)
-             nn.ReLU(),
-             nn.Conv2d(32
+ padding=1),
+             nn.Conv2d(32
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
- kl_loss = kl_divergence(mu, log_std)  # without beta: runs of other betas compare
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
@ vae/losses.py vae_noise wrong: no gradient
- return mu + log_std.exp() * noise
+ return torch.normal(mu, log_std.exp())
* return mu + log_std.exp() * torch.randn_like(mu)
@ vae/losses.py kl_value right: a row of its own
- torch.randn_like(mu)
+ torch.rand_like(mu)
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
@ vae/train.py epoch_steps wrong: added up
- optimizer.zero_grad()
+ pass
* optimizer.zero_grad()
@ vae/train.py epoch_steps wrong: gradients of norm 0
- loss.backward()
+ loss.backward(); optimizer.zero_grad()
* loss.backward()
@ vae/train.py beta_reaches_loss wrong: no gradient depends
- return vae_loss
+ return lambda model, x, beta, own=__import__("losses"): own.vae_loss(model, x, 1)
* return lambda model, x, beta, own=__import__("losses"): own.vae_loss(model, x, beta)
@ vae/train.py beta_reaches_loss wrong: 0.3
- beta(step) if callable(beta) else beta)
-         loss.backward
+ 1)
+         loss.backward
@ vae/train.py weighted_means differs: batch means
- means.add({"loss": loss} | terms, len(x))
+ means.add({"loss": loss} | terms)
@ vae/train.py same_range wrong: training
- x = preprocess_data(x, device)  # (B, 3, 32, 32) in [-1, 1]
-         optimizer.zero_grad()
+ x = preprocess_data(x, device) * 2 - 1
+         optimizer.zero_grad()
* x = preprocess_data(x)
*         optimizer.zero_grad()
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
@ handin:gan/train.py discriminator_steps wrong: real ones'
- disc(real), disc(fake), disc(interp)
+ disc(fake), disc(real), disc(interp)
@ handin:gan/train.py discriminator_steps wrong: 0 steps of its optimizer for 7 losses
- scaler.step(optim_disc)
+ pass
@ handin:gan/train.py discriminator_steps wrong: earlier steps
- optim_disc.zero_grad()
+ pass
* optim_disc.zero_grad()
@ handin:gan/train.py discriminator_steps differs: clipped
- scaler.step(optim_disc)
+ torch.nn.utils.clip_grad_norm_(disc.parameters(), 0.1)
+             scaler.step(optim_disc)
@ handin:gan/train.py discriminator_steps wrong: has a slope
- disc(real), disc(fake), disc(interp)
+ disc(real).detach(), disc(fake), disc(interp)
@ handin:gan/train.py discriminator_steps wrong: cleared
- scaler.step(optim_disc)
+ optim_disc.zero_grad(); scaler.step(optim_disc)
@ handin:gan/train.py interpolates wrong: another grey
- real = batch.cuda()
+ real = 2 * batch.cuda() - 1
@ handin:gan/train.py iterations differs: 5 in each
- optim_disc.zero_grad()
+ [disc_loss_fn(disc(real), disc(fake), disc(interp), interp, lamb) for _ in range(4)]
+             optim_disc.zero_grad()
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
@ handin:gan/utils.py fid_images differs: rounded down
- (gen.forward_given_samples(z) / 2 + 0.5) * 255
+ ((gen.forward_given_samples(z) / 2 + 0.5) * 255).byte()
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
@ handin:diffusion/model.py posterior wrong: coefficients
- self.posterior_variance = self.betas * (1 - before) / (1 - self.alphas_cumprod)
+ self.posterior_variance = self.betas
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
@ handin:gan/train.py discriminator_steps
- disc(real), disc(fake), disc(interp), interp, lamb)
+ disc(real), disc(fake), disc(interp), interp=interp, lamb=lamb)
@ handin:gan/train.py iterations
- scaler.update()
+ scaler.update()
+             with torch.no_grad():
+                 disc_loss_fn(disc(real), disc(fake), None, None, lamb)
@ handin:gan/train.py interpolates
- real = batch.cuda()
+ gen.requires_grad_(False).requires_grad_(True), torch.Generator(device="cuda")
+                 real = batch.to(0)
@ vae/train.py beta_reaches_loss
- return vae_loss
+ return lambda model, x, beta, own=__import__("losses"): own.vae_loss(model, x, beta)
@ vae/model.py vae_encoder_output
- return mu, log_std
+ return mu, log_std.clamp(-5, 2)
@ vae/schedules.py linear_beta
- return lambda epoch: target_val * min(1.0, epoch / max_epochs)
+ return lambda epoch: __import__("torch").tensor(target_val * min(1.0, epoch / max_epochs))
@ gan/networks.py block_up
- self.layers = nn.Sequential(
-             nn.BatchNorm2d(input_channels),
+ self.main = nn.Sequential(
+             nn.BatchNorm2d(input_channels),
""")


def check_all(slips: list[Slip]) -> list[str]:
    """What no longer applies: a text that is not there."""
    lost = []
    for slip in slips:
        if slip.old not in (ROOT / slip.file).read_text():
            lost.append(f"{slip.file} has no {slip.old!r}")
        lost += [f"no tests/{t}" for t in tests_of(slip) if not (ROOT / "tests" / t).exists()]
    return lost


def tests_of(slip: Slip) -> list[str]:
    """The test files that should see it, below tests/."""
    return [slip.name, *slip.words.split()]


def fails(tests: list[str], slip: Slip | None = None) -> bool:
    """Whether one of the tests fails in a copy, with the slip."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for folder in ("gan", "vae", "tests"):
            shutil.copytree(ROOT / folder, root / folder, ignore=LEFT)
        shutil.copytree(
            ROOT / "report", root / "report", ignore=shutil.ignore_patterns("runs", ".*")
        )
        (root / "report/runs").symlink_to(ROOT / "report/runs")
        for name in ("README.md", "requirements.txt"):
            shutil.copy(ROOT / name, root)
        if slip:
            slip.put_into(root)
        process = os.fork()
        if process == 0:
            os.setsid()
            os.chdir(root)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1), os.dup2(nowhere, 2)
            paths = [f"tests/{name}" for name in tests]
            sys.path[:] = [path for path in sys.path if not path.startswith(str(ROOT / "tests"))]
            for name in [n for n, m in sys.modules.items() if _is_ours(m) and n != "__main__"]:
                del sys.modules[name]
            os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *paths])))
        end = time.monotonic() + SECONDS
        while (done := os.waitpid(process, os.WNOHANG)) == (0, 0):
            if time.monotonic() > end:
                os.killpg(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return True
            time.sleep(0.2)
        code = os.waitstatus_to_exitcode(done[1])
        if code not in (0, 1):  # 2: a slip at import is found there; others: nothing was tested
            print(f"{' '.join(tests)}: pytest ended with {code}", flush=True)
        return code in (1, 2)


def _is_ours(module: object) -> bool:
    path = getattr(module, "__file__", None) or ""
    return path.startswith(str(ROOT)) and "site-packages" not in path


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="slips of these alone (all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at a time (all cores)")
    args = parser.parse_args()
    wanted = tuple(args.files) or ("",)
    slips = [slip for slip in SLIPS if slip.file.startswith(wanted)]
    if lost := check_all(slips):
        print("\n".join(["no longer applies:", *lost]))
        return 2
    survivors, names = [], [tests_of(slip) for slip in slips]
    with ThreadPoolExecutor(args.jobs) as threads:
        single = [[name] for name in dict.fromkeys(name for those in names for name in those)]
        if failing := [n for n, failed in zip(single, threads.map(fails, single)) if failed]:
            print(f"fails without any slip: {', '.join(name for (name,) in failing)}")
            return 2
        for slip, found in zip(slips, threads.map(fails, names, slips), strict=True):
            if not found:
                survivors.append(slip)
                why = EXPLAINED.get((slip.file, slip.old), "not explained")
                print(f"survives: {slip.file} ({why})\n- {slip.old}\n+ {slip.new}", flush=True)
    print(f"{len(slips) - len(survivors)} of {len(slips)} slips are found")
    return int(any((slip.file, slip.old) not in EXPLAINED for slip in survivors))


if __name__ == "__main__":
    sys.exit(main())
