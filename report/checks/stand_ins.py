"""What stands in for a GPU, 16-bit numbers, missing modules, old libraries, data and downloads.

Hand-ins were written for CUDA and the libraries of their year. Here they meet a CPU and those of
today: what would stop them for that reason alone is done for them, and noted.
"""

import importlib.machinery
import importlib.util
import multiprocessing
import socket
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cleanfid.fid
import cleanfid.inception_torchscript
import matplotlib
import torch
import torchvision
from torch.overrides import TorchFunctionMode

GREY = 96  # of every picture that stands in for data, of 255


class Notes:
    """What a hand-in asked for while it was watched."""

    def __init__(self) -> None:
        self.cuda = self.half = False
        self.missing: set[str] = set()  # modules that are not installed
        self.old: dict[str, str] = {}  # kind -> what no longer runs, and how to write it
        self.fid: list[dict] = []  # calls of clean-fid's compute_fid
        self.features: list[torch.Tensor] = []  # means of 4x4 parts of what reached Inception


class OnCPU(TorchFunctionMode):
    """CUDA devices are the CPU, float16 is float32; both are noted."""

    def __init__(self, notes: Notes):
        super().__init__()
        self.notes = notes

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Called in place of every function of torch's."""
        if function is torch.Tensor.cuda:
            self.notes.cuda = True
            return args[0]
        if function is torch.Tensor.pin_memory:
            return args[0]
        if function is torch.Tensor.record_stream:
            return None
        if function is torch.Tensor.half:
            self.notes.half = True
            return args[0].float()
        if function is torch.Tensor.to:  # a number is a GPU's
            args = tuple("cpu" if type(value) is int else value for value in args)
        named = {name: self._here(value) for name, value in (kwargs or {}).items()}
        if type(named.get("device")) is int:
            named["device"] = "cpu"
        return function(*map(self._here, args), **named)

    def _here(self, value: Any) -> Any:
        if value is torch.float16:
            self.notes.half = True
            return torch.float32
        if (isinstance(value, torch.device) and value.type == "cuda") or (
            isinstance(value, str) and value.split(":")[0] == "cuda"
        ):
            self.notes.cuda = True
            return torch.device("cpu")
        return value


def _attribute(self: Any, name: str) -> Any:
    """Every attribute but those that Python looks for."""
    if name.startswith("__"):
        raise AttributeError(name)
    return StandIn


class _Anything(type):
    """Of the stand-in for a class of a missing module."""

    __getattr__ = _attribute

    def __iter__(cls) -> Any:
        return iter(())


class StandIn(metaclass=_Anything):
    """Whatever a missing module has: a class, a function, a decorator, a context."""

    __getattr__ = _attribute

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """As a decorator it gives the function back."""
        if len(args) == 1 and callable(args[0]) and not kwargs:
            return args[0]
        return object.__new__(cls)

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _self(self, *args: Any, **kwargs: Any) -> Any:
        return self

    __init__ = __exit__ = __setitem__ = _nothing
    __call__ = __enter__ = _self

    def elapsed_time(self, other: Any) -> float:
        """Milliseconds, of a CUDA event."""
        return 0.0


def _importer() -> str:
    """The file whose import is under way."""
    frame = sys._getframe(1)
    while frame.f_back and (
        "importlib" in frame.f_code.co_filename or frame.f_code.co_filename == __file__
    ):
        frame = frame.f_back
    return frame.f_code.co_filename


class MissingModules:
    """An importer for what nobody else finds: wandb, einops, a helper of the author's own.

    Only for the modules of the hand-in: what libraries miss, they do without.
    """

    def __init__(self, notes: Notes, folder: Path):
        self.notes, self.folder = notes, str(folder)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Called when the other importers have given up."""
        if not _importer().startswith(self.folder):
            return None
        top = name.partition(".")[0]
        if top in sys.modules and top not in self.notes.missing:
            return None  # a part of something that is there: an error as ever
        self.notes.missing.add(top)
        loader: Any = self
        return importlib.machinery.ModuleSpec(name, loader, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """A module with every attribute, and nothing for `from ... import *`."""
        module: Any = types.ModuleType(spec.name)
        module.__getattr__, module.__all__ = partial(_attribute, None), []
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


class StandInInception(torch.nn.Module):
    """Clean-fid's network: 16 numbers of an image, which is kept."""

    notes = Notes()

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, 299, 299) in [0, 255] -> (B, 48)."""
        means = torch.nn.functional.adaptive_avg_pool2d(images.float(), 4)  # (B, 3, 4, 4)
        self.notes.features.append(means.detach().cpu())
        return means.flatten(1)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """In place of what saves, draws or waits."""


def put_in(notes: Notes, folder: Path) -> None:
    """Change this process; it serves for one check of the modules in `folder`."""
    sys.meta_path.append(MissingModules(notes, folder))
    cuda: Any = torch.cuda
    cuda.current_device = lambda: torch.device("cpu")
    cuda.get_device_name = lambda *args: "a stand-in"
    for name in ("synchronize", "empty_cache", "manual_seed", "manual_seed_all", "set_device"):
        setattr(cuda, name, _nothing)
    for name in ("Stream", "stream", "current_stream", "default_stream", "Event"):
        setattr(cuda, name, StandIn)
    cuda.get_device_properties = StandIn
    cuda.FloatTensor = cuda.HalfTensor = torch.FloatTensor
    generator: Any = torch.Generator  # on whatever device it is asked for
    made = {"__new__": lambda cls, *args, **kwargs: generator.__new__(cls)}
    setattr(torch, "Generator", type("Generator", (generator,), made))  # noqa: B010
    torch.jit.script = lambda module, *args, **kwargs: module  # type: ignore[assignment]
    for place, name in (
        *((torch.jit, "save"), (torch, "save")),
        *((matplotlib, "use"), (multiprocessing, "set_start_method")),  # no screen
    ):
        setattr(place, name, _nothing)
    _old_calls(notes)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no network while a hand-in is checked")

    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.getaddrinfo = refuse

    def compute_fid(*args: Any, **kwargs: Any) -> float:
        """Its score is 100, its network a few means: what is given to them is what counts."""
        notes.fid.append(dict(zip(("fdir1", "fdir2", "gen"), args, strict=False)) | kwargs)
        return 100.0

    cleanfid.fid.compute_fid = compute_fid
    StandInInception.notes = notes
    cleanfid.inception_torchscript.InceptionV3W = StandInInception


def _changed(kind: Any, name: str, change: Callable[[list, dict], None]) -> None:
    """Have a function or method called with arguments that `change` has been over."""
    call = getattr(kind, name)

    def changed(*args: Any, **kwargs: Any) -> Any:
        given = list(args)
        change(given, kwargs)
        return call(*given, **kwargs)

    setattr(kind, name, changed)


def _old_calls(notes: Notes) -> None:
    """Calls that today's libraries refuse; and data are loaded in this process."""

    def betas(args: list, kwargs: dict) -> None:
        if len(args) > 3:  # (self, params, lr, betas, ...)
            kwargs["betas"] = args.pop(3)
        if len({type(beta) for beta in kwargs.get("betas", ())}) > 1:
            notes.old["adam"] = f"torch {torch.__version__} refuses Adam(betas="
            notes.old["adam"] += f"{(*kwargs['betas'],)}), an int beside a float: write (0.0, 0.9)"
            kwargs["betas"] = tuple(map(float, kwargs["betas"]))

    def verbose(args: list, kwargs: dict) -> None:
        if kwargs.pop("verbose", None) is not None:
            notes.old["scheduler"] = f"learning-rate schedulers of torch {torch.__version__} have "
            notes.old["scheduler"] += "no argument verbose: leave it out"

    def renamed(args: list, kwargs: dict) -> None:
        if "range" in kwargs:
            notes.old["range"] = "save_image and make_grid have no argument range any more: "
            notes.old["range"] += "write value_range"
            kwargs["value_range"] = kwargs.pop("range")

    def no_workers(args: list, kwargs: dict) -> None:
        for name in ("persistent_workers", "prefetch_factor", "timeout", "multiprocessing_context"):
            kwargs.pop(name, None)
        kwargs |= {"num_workers": 0, "pin_memory": False}

    _changed(torch.optim.Adam, "__init__", betas)
    base = torch.optim.lr_scheduler.LRScheduler
    for scheduler in list(vars(torch.optim.lr_scheduler).values()):
        if isinstance(scheduler, type) and issubclass(scheduler, base):
            _changed(scheduler, "__init__", verbose)
    for name in ("save_image", "make_grid"):
        _changed(torchvision.utils, name, renamed)
    _changed(torch.utils.data.DataLoader, "__init__", no_workers)


def make_data(folder: Path) -> None:
    """A few images where a hand-in looks for its own, and the file of clean-fid's network."""
    picture = torch.full((3, 32, 32), GREY, dtype=torch.uint8)
    for place in (folder / "datasets", folder.parent / "datasets"):
        birds = place / "CUB_200_2011_32"
        birds.mkdir(parents=True, exist_ok=True)
        for number in range(10):
            torchvision.io.write_jpeg(picture, str(birds / f"{number}.jpg"), quality=100)
        (place / "inception-2015-12-05.pt").write_bytes(b"a stand-in")
