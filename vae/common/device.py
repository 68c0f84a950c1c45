"""Where a run computes, in which number format, and how it keeps its memory."""

import contextlib
import ctypes
import sys
from contextlib import AbstractContextManager
from typing import Any

import torch

from common import InputError, first_line

FAST_BFLOAT16 = ("amx_bf16", "avx512_bf16")  # of a CPU: AMX, AVX512-BF16


def resolve_device(name: str | torch.device | None = None) -> torch.device:
    """The device for "cpu", "cuda" or "cuda:N"; None picks the GPU where there is one."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # torch sees a GPU older or newer than it was built for, and has no kernels for it.
        torch.ones(1, device=device).add(1).item()
        if device.type in ("cpu", "cuda"):
            return device
        why = "another kind of device"
    except (RuntimeError, AssertionError) as error:
        unknown = "Expected one of" in str(error)  # a list of twenty
        why = "torch knows no such device" if unknown else first_line(error)
    expected = "expected cpu, cuda or cuda:N that computes here"
    mend = "use --device cpu, or, to go on with a run of a GPU, a machine with one"
    raise InputError(f"--device: got {name!r}, {expected} ({why}); {mend}")


def prepare(precision: "Precision") -> None:
    """Settings of the process for the steps of a run; says where and how it computes."""
    device, best, why = precision.device, autocast_dtype(precision.device), ""
    if device.type == "cpu":
        keep_freed_memory()  # before the first step's activations
        name = f"the CPU, {torch.get_num_threads()} threads"
        if best is None:
            why = "; without fast bfloat16 (AMX, AVX512-BF16) a step takes two to four times longer"
    else:
        torch.backends.cudnn.benchmark = True  # nearly every batch has one shape
        torch.backends.cudnn.allow_tf32 = precision.dtype is not None  # float32 means float32
        name = torch.cuda.get_device_name(device)
        if precision.dtype is None and best == torch.float16:
            why = "; it has no bfloat16, and float16 would need a gradient scaler"
    print(f"Computing on {name}, in {precision.name}{why}.")


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
    return torch.bfloat16 if any(map(cpu_capabilities().get, FAST_BFLOAT16)) else None


def cpu_capabilities() -> dict[str, Any]:
    """What torch knows of this CPU; nothing on some systems."""
    found: dict = getattr(torch.cpu, "get_capabilities", dict)()
    return found


class Precision:
    """A number format on a device; `with precision():` computes in it, None being float32."""

    def __init__(self, device: torch.device, dtype: torch.dtype | None = None):
        self.device, self.dtype = device, dtype
        # float16 gradients vanish unless the loss is scaled first; bfloat16 has float32's range.
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def __call__(self, wide: bool = False) -> AbstractContextManager:
        """The autocast context; wide: float32 in place of float16, for what has a large range."""
        if self.dtype is None or (wide and self.dtype == torch.float16):
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @property
    def name(self) -> str:
        """As a run records it: float32, bfloat16 or float16."""
        return str(self.dtype or torch.float32).removeprefix("torch.")


def choose_precision(device: torch.device, amp_enabled: bool) -> Precision:
    """bfloat16 where the hardware has it, else float32: float16 would need a gradient scaler."""
    dtype = autocast_dtype(device, amp_enabled)
    return Precision(device, None if dtype == torch.float16 else dtype)


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
