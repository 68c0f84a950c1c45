"""Where a run computes, in which number format, and how it keeps its memory."""

import contextlib
import ctypes
import sys
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from common import InputError


def resolve_device(name: str | torch.device | None = None) -> torch.device:
    """The device for "cpu", "cuda" or "cuda:N"; None picks the GPU where there is one."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"--device: got {name!r}, expected cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InputError(
            f"--device: got {name!r}, but torch sees {count} CUDA devices; use --device cpu"
        )
    return device


def prepare(device: torch.device) -> None:
    """Settings of the process that make the steps of a run faster."""
    if device.type == "cpu":
        keep_freed_memory()
    else:
        torch.backends.cudnn.benchmark = True  # nearly every batch has one shape


def autocast_dtype(device: torch.device, enabled: bool = True) -> torch.dtype | None:
    """The 16-bit type that pays on this device, or None for plain float32.

    bfloat16 where the hardware multiplies it (Ampere and newer GPUs, CPUs with AMX or
    AVX512-BF16); float16 on older GPUs, where it needs a gradient scaler.
    """
    if not enabled:
        return None
    if device.type == "cuda":
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    capabilities: dict = getattr(torch.cpu, "get_capabilities", dict)()
    fast_bfloat16 = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    return torch.bfloat16 if fast_bfloat16 else None


class Precision:
    """A number format on a device; `with precision():` computes in it, None being float32."""

    def __init__(self, device: torch.device, dtype: torch.dtype | None = None):
        self.device, self.dtype = device, dtype
        # float16 gradients vanish unless the loss is scaled first; bfloat16 has float32's range.
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def __call__(self) -> AbstractContextManager:
        """The autocast context, or one that does nothing."""
        return autocast(self.device, self.dtype)

    def wide(self) -> AbstractContextManager:
        """The same, but float32 in place of float16: for what has a large range."""
        return autocast(self.device, None if self.dtype == torch.float16 else self.dtype)

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to call backward() on."""
        return self.scaler.scale(loss)

    @property
    def name(self) -> str:
        """As a run records it: float32, bfloat16 or float16."""
        return str(self.dtype or torch.float32).removeprefix("torch.")


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """Autocast to `dtype`, or a context that does nothing where that is None."""
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def keep_freed_memory() -> None:
    """Let glibc keep the pages of freed tensors (CPU runs on Linux; elsewhere it does nothing).

    By default every activation larger than 128 kB is mapped from the kernel, zeroed page by page,
    and unmapped again, in every step: about a third of a step's time at batch 256.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL("libc.so.6").mallopt
            mallopt(-4, 0)  # M_MMAP_MAX: never serve an allocation by mmap
            mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never give the top of the heap back
