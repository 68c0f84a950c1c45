"""What makes a run what it is: the runs of the assignment by name, their neighbours, and how settings are checked."""

from errors import InputError

PRESETS = {
    "ae_latent16": {"loss_mode": "ae", "latent_size": 16},
    "ae_latent128": {"loss_mode": "ae", "latent_size": 128},
    "ae_latent1024": {"loss_mode": "ae", "latent_size": 1024},
    "vae_latent16": {"loss_mode": "vae", "latent_size": 16},
    "vae_latent128": {"loss_mode": "vae", "latent_size": 128},
    "vae_latent1024": {"loss_mode": "vae", "latent_size": 1024},
    "vae_latent1024_beta_constant0.8": {"loss_mode": "vae", "latent_size": 1024, "target_beta_val": 0.8},
    "vae_latent1024_beta_constant1.2": {"loss_mode": "vae", "latent_size": 1024, "target_beta_val": 1.2},
    "vae_latent1024_beta_linear1": {"loss_mode": "vae", "latent_size": 1024, "beta_mode": "linear"},
}
# Runs that the assignment does not ask for. `all` leaves them out.
NEIGHBOURS = {
    "ae_small": {"loss_mode": "ae", "network": "small", "latent_size": 2048},
    "vae_latent128_planar4": {"loss_mode": "vae", "latent_size": 128, "flows": 4},
    "vae_latent128_anneal": {"loss_mode": "vae", "latent_size": 128, "beta_mode": "anneal", "batch_size": 64},
    "vae_latent128_cyclical": {"loss_mode": "vae", "latent_size": 128, "beta_mode": "cyclical"},
    "vae_latent128_free_bits0.5": {"loss_mode": "vae", "latent_size": 128, "free_bits": 0.5},
}
BETA_MODES = ("constant", "linear", "anneal", "cyclical")

# Settings that the assignment's runs do not have, and their values there.
NEIGHBOUR_SETTINGS = {
    "network": "assignment",
    "flows": 0,
    "free_bits": 0,
    "anneal_steps": 10_000,
    "cycles": 4,
    "ratio": 0.5,
}


def identity(
    loss_mode, beta_mode, num_epochs, batch_size, latent_size, target_beta_val, grad_clip, lr, seed, **more
):
    """The settings that make a run what it is, checked; a run is resumed only with the same ones."""
    if loss_mode not in ("ae", "vae") or beta_mode not in BETA_MODES:
        raise InputError(
            f"loss_mode, beta_mode: got {loss_mode!r}, {beta_mode!r}; expected ae or vae, one of {', '.join(BETA_MODES)}"
        )
    for name, value in (("num_epochs", num_epochs), ("batch_size", batch_size), ("latent_size", latent_size)):
        if value != int(value) or value < 1:
            raise InputError(f"--{name}: got {value}, expected a whole number >= 1")
    if not (0 <= target_beta_val < float("inf") and grad_clip > 0 and lr > 0):
        raise InputError(
            f"target_beta_val, grad_clip, lr: got {target_beta_val}, {grad_clip}, {lr}; expected >= 0, > 0, > 0"
        )
    settings = {"loss_mode": loss_mode, "beta_mode": beta_mode, "latent_size": latent_size, "batch_size": batch_size,
                "target_beta_val": target_beta_val, "lr": lr, "grad_clip": grad_clip, "seed": seed}  # fmt: skip
    return settings | neighbour_identity(loss_mode, beta_mode, num_epochs, more)


def neighbour_identity(loss_mode, beta_mode, num_epochs, more):
    """Those of NEIGHBOUR_SETTINGS that this run uses, None for the others; a run of the assignment uses none."""
    if unknown := more.keys() - NEIGHBOUR_SETTINGS.keys():
        raise InputError(
            f"settings: got {sorted(unknown)[0]}, expected one of {', '.join(NEIGHBOUR_SETTINGS)}"
        )
    more = NEIGHBOUR_SETTINGS | more
    if loss_mode == "ae" and (more["flows"] or more["free_bits"]):
        raise InputError("--flows and --free_bits belong to a VAE; leave them out for --loss_mode ae")
    if more["flows"] and more["free_bits"]:
        raise InputError(
            "--flows and --free_bits exclude each other: the flows' KL is one estimate for all latents"
        )
    if more["network"] == "small" and loss_mode != "ae":
        raise InputError("network small is an autoencoder; expected --loss_mode ae")
    if more["network"] not in ("assignment", "small"):
        raise InputError(f"network: got {more['network']!r}, expected assignment or small")
    if not (more["flows"] >= 0 and 0 <= more["free_bits"] < float("inf") and more["anneal_steps"] >= 1):
        raise InputError(
            f"flows, free_bits, anneal_steps: got {more['flows']}, {more['free_bits']}, {more['anneal_steps']}; "
            "expected >= 0, >= 0, >= 1"
        )
    if not (more["cycles"] >= 1 and 0 < more["ratio"] <= 1):
        raise InputError(f"cycles, ratio: got {more['cycles']}, {more['ratio']}; expected >= 1, in (0, 1]")
    used = {"network", "flows", "free_bits"} - {
        name for name in NEIGHBOUR_SETTINGS if more[name] == NEIGHBOUR_SETTINGS[name]
    }
    used |= {"anneal": {"anneal_steps"}, "cyclical": {"cycles", "ratio"}}.get(beta_mode, set())
    # The length of a run sets these schedules' slopes: there it belongs to the identity too.
    length = num_epochs if beta_mode in ("linear", "cyclical") else None
    return {name: more[name] if name in used else None for name in NEIGHBOUR_SETTINGS} | {
        "num_epochs": length
    }
