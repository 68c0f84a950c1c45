"""A GPU that is not there: computes on the CPU, and remembers where each tensor would be.

`with EmulatedGPU() as gpu:` lets `device="cuda"` be asked for. Every storage is tagged with the
device that it would be on; an operation on tensors of two devices raises MixedDevices, as a GPU
would; `gpu.transfers` names what moves data between the two and makes the host wait.
"""

import contextlib
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
GROUPS = "torch.nn.utils.clip_grad._group_tensors_by_device_and_dtype"
# What makes the host wait for the device, by its name as a method.
READS = {"item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__", "nonzero"}


class MixedDevices(RuntimeError):
    """An operation got tensors of two devices."""


class EmulatedGenerator(torch.Generator):
    """Draws on the CPU, and says that it is on the device it was made for."""

    def __new__(cls, device="cpu"):
        self = super().__new__(cls, "cpu")
        self.at = torch.device(device)
        return self

    device = property(lambda self: self.at)


class EmulatedGPU(contextlib.ExitStack):
    def __enter__(self):
        super().__enter__()
        self.there, self.transfers = {}, []  # storages, kept alive: an address is not used twice
        self.asked = None  # the function of torch that Python called
        self.enter_context(mock.patch(GROUPS, _grouped_by_emulated_device(self)))
        self.enter_context(mock.patch("torch.Generator", EmulatedGenerator))
        for mode in (_Dispatch(), _Functions()):
            mode.gpu = self
            self.enter_context(mode)
        return self

    def holds(self, tensor):
        return tensor.untyped_storage()._cdata in self.there

    def put(self, tensor):
        for leaf in tree_leaves(tensor):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                self.there[storage._cdata] = storage
        return tensor


def _grouped_by_emulated_device(gpu):
    """For clip_grad_norm_, which sorts tensors by the device that they are really on."""
    real = torch.utils._foreach_utils._group_tensors_by_device_and_dtype

    def group(lists, *args, **kwargs):
        groups = real(lists, *args, **kwargs).items()
        where = {key: CUDA if gpu.holds(value[0][0][0]) else key[0] for key, value in groups}
        return {(where[key], key[1]): value for key, value in groups}

    return group


class _Dispatch(TorchDispatchMode):
    """Sees every operation, the backward pass's too."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, torch.Tensor)]
        there = [tensor for tensor in tensors if self.gpu.holds(tensor)]
        # A number in a tensor of its own, on the CPU, may be mixed in.
        here = [tensor for tensor in tensors if not self.gpu.holds(tensor) and tensor.ndim > 0]
        if there and here:
            shapes = [tuple(tensor.shape) for tensor in (there[0], here[0])]
            raise MixedDevices(f"{function}: {shapes[0]} on the GPU, {shapes[1]} on the CPU")
        if there and str(function).startswith("aten._local_scalar_dense"):
            self.gpu.transfers.append("item")
        result = function(*args, **(kwargs or {}))
        # The backward pass makes zeros where the gradients are, which nobody in Python asked for.
        made = not tensors and self.gpu.asked in (None, "backward")
        return self.gpu.put(result) if there or made else result


class _Functions(TorchFunctionMode):
    """Sees what Python asks for, and where."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        tensor = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if function == torch.Tensor.device.__get__:
            return CUDA if self.gpu.holds(tensor) else CPU
        if name in ("to", "cpu", "cuda") and tensor is not None:
            return self._move(name, tensor, args[1:], kwargs)
        if name in READS and tensor is not None and self.gpu.holds(tensor) and name != "item":
            self.gpu.transfers.append(name)
        wanted = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        generator = kwargs.get("generator")
        if wanted is not None:
            if generator is not None and generator.device.type != wanted.type:
                raise MixedDevices(f"{name}: a generator on {generator.device}, asked for {wanted}")
            kwargs["device"] = CPU
        self.gpu.asked, before = name, self.gpu.asked
        try:
            result = function(*args, **kwargs)
        finally:
            self.gpu.asked = before
        return self.gpu.put(result) if wanted is not None and wanted.type == "cuda" else result

    def _move(self, name, tensor, rest, kwargs):
        places = [x for x in (*rest, *kwargs.values()) if isinstance(x, torch.device | str)]
        if name == "to" and not places:
            if not (rest and isinstance(rest[0], torch.Tensor)):
                return tensor.to(*rest, **kwargs)
            places, rest = [rest[0].device], (rest[0].dtype,)
        wanted = {"cpu": CPU, "cuda": CUDA}.get(name) or torch.device(places[0])
        other = [x for x in rest if isinstance(x, torch.dtype)]
        kwargs = {k: x for k, x in kwargs.items() if k in ("dtype", "memory_format")}
        if (wanted.type == "cuda") == self.gpu.holds(tensor):
            return tensor.to(*other, **kwargs) if other or kwargs else tensor
        self.gpu.transfers.append(f"to {wanted.type}")
        with torch._C.DisableTorchFunctionSubclass():
            moved = tensor.detach().clone(memory_format=torch.preserve_format)
            self.gpu.there.pop(moved.untyped_storage()._cdata, None)
            moved = moved.to(*other, **kwargs) if other or kwargs else moved
        return self.gpu.put(moved) if wanted.type == "cuda" else moved
