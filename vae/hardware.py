"""Where a run computes, in which number format, and how it keeps its memory."""

import contextlib
import ctypes
import sys

import torch

from errors import InputError


def resolve_device(name=None):
    """`torch.device` for "cpu", "cuda" or "cuda:N"; None picks the GPU where there is one."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"--device: got {name!r}, expected cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device: got {name!r}, but torch sees {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


def autocast_dtype(device, enabled=True):
    """The 16-bit type that pays on this device, or None for plain float32.

    bfloat16 where the hardware multiplies it (Ampere and newer GPUs, CPUs with AMX or AVX512-BF16);
    float16 on older GPUs, where it needs a gradient scaler.
    """
    if not enabled:
        return None
    if device.type == "cuda":
        with torch.cuda.device(device):
            return (
                torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
            )
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    fast_bfloat16 = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    return torch.bfloat16 if fast_bfloat16 else None


def autocast(device, dtype):
    """Autocast to `dtype`, or a context that does nothing where dtype is None."""
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def keep_freed_memory():
    """Let glibc keep the pages of freed tensors (CPU runs on Linux; elsewhere it does nothing).

    By default every activation larger than 128 kB is mapped from the kernel, zeroed page by page,
    and unmapped again, in every step: about a third of a step's time at batch 256.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL("libc.so.6").mallopt
            mallopt(-4, 0)  # M_MMAP_MAX: never serve an allocation by mmap
            mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never give the top of the heap back
