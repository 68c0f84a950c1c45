"""A diffusion model: its mathematics (process.py) and its network (unet.py); ddpm.py trains it."""
