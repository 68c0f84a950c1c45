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
    if device.type == "cuda":
        check_kernels(device)
    return device


def check_kernels(device: torch.device) -> None:
    """Refuse a GPU that torch sees but was not built for: an old one, or a very new one."""
    major, minor = torch.cuda.get_device_capability(device)
    built = [name.removesuffix("a") for name in torch.cuda.get_arch_list()]
    # Kernels run on their own generation from their minor version on; PTX on any later one.
    same = any(name[:-1] == f"sm_{major}" and int(name[-1]) <= minor for name in built)
    ptx = [int(name.removeprefix("compute_")) for name in built if name.startswith("compute_")]
    if not same and not any(number <= 10 * major + minor for number in ptx):
        raise InputError(
            f"--device: torch {torch.__version__} has no kernels for {torch.cuda.get_device_name()}"
            f" (sm_{major}{minor}; it has {', '.join(built)}); install another build of torch, "
            "or use --device cpu"
        )


def prepare(precision: "Precision") -> None:
    """Settings of the process for the steps of a run; says where and how it computes."""
    device = precision.device
    if device.type == "cpu":
        keep_freed_memory()
        name, why = f"the CPU, {torch.get_num_threads()} threads", ""
        if precision.dtype is None and autocast_dtype(device) is None:
            why = "; without fast bfloat16 (AMX, AVX512-BF16) a step takes two to four times longer"
    else:
        torch.backends.cudnn.benchmark = True  # nearly every batch has one shape
        torch.backends.cudnn.allow_tf32 = precision.dtype is not None  # float32 means float32
        name, why = torch.cuda.get_device_name(device), ""
        if precision.dtype is None and autocast_dtype(device) == torch.float16:
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
    return torch.bfloat16 if fast_bfloat16() else None


def cpu_capabilities() -> dict:
    """What torch knows of this CPU; nothing on some systems."""
    found: dict = getattr(torch.cpu, "get_capabilities", dict)()
    return found


def fast_bfloat16() -> list[str]:
    """What this CPU multiplies bfloat16 with: AMX, AVX512-BF16, both or nothing."""
    kinds = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
    return [name for key, name in kinds.items() if cpu_capabilities().get(key)]


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


def choose_precision(device: torch.device, amp_enabled: bool) -> Precision:
    """bfloat16 where the hardware has it, else float32: float16 would need a gradient scaler."""
    dtype = autocast_dtype(device, amp_enabled)
    return Precision(device, None if dtype == torch.float16 else dtype)


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
