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


class _Anything(type):
    """Of the stand-in for a class of a missing module: has every attribute."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn

    def __iter__(cls) -> Any:
        return iter(())


class StandIn(metaclass=_Anything):
    """Whatever a missing module has: a class, a function, a decorator, a context."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """As a decorator it gives the function back."""
        if len(args) == 1 and callable(args[0]) and not kwargs:
            return args[0]
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing of use."""
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class Event(StandIn):
    """A CUDA event, for who measures time."""

    def elapsed_time(self, other: Any) -> float:
        """Milliseconds."""
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
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: self._attribute(name)  # type: ignore[method-assign]
        module.__all__ = []  # type: ignore[attr-defined]
        return module

    def _attribute(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn

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


def put_in(notes: Notes, folder: Path) -> None:
    """Change this process; it serves for one check of the modules in `folder`."""
    sys.meta_path.append(MissingModules(notes, folder))
    cuda: Any = torch.cuda
    cuda.current_device = lambda: torch.device("cpu")
    cuda.get_device_name = lambda *args: "a stand-in"
    cuda.get_device_properties = StandIn
    for name in ("synchronize", "empty_cache", "manual_seed", "manual_seed_all", "set_device"):
        setattr(cuda, name, lambda *args, **kwargs: None)
    cuda.Event = Event
    generator: Any = torch.Generator
    kind: Any = type(
        "Generator", (generator,), {"__new__": lambda c, *a, **k: generator.__new__(c)}
    )
    setattr(torch, "Generator", kind)  # noqa: B010 (on whatever device it is asked for)
    for name in ("Stream", "stream", "current_stream", "default_stream"):
        setattr(cuda, name, StandIn)
    for name in ("FloatTensor", "HalfTensor"):
        setattr(cuda, name, torch.FloatTensor)
    jit: Any = torch.jit
    jit.script = lambda module, *args, **kwargs: module
    jit.save = lambda *args, **kwargs: None
    torch.save = lambda *args, **kwargs: None
    matplotlib.use = lambda *args, **kwargs: None  # no screen
    multiprocessing.set_start_method = lambda *args, **kwargs: None
    _no_network()
    _old_calls(notes)
    _no_workers()
    _clean_fid(notes)


def _no_network() -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no network while a hand-in is checked")

    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.getaddrinfo = refuse


def _old_calls(notes: Notes) -> None:
    """Calls that today's libraries refuse."""
    adam: Any = torch.optim.Adam
    make_adam = adam.__init__

    def adam_init(self: Any, params: Any, *args: Any, **kwargs: Any) -> None:
        if len(args) > 1:  # (params, lr, betas, ...)
            kwargs["betas"], args = args[1], (args[0], *args[2:])
        betas = kwargs.get("betas")
        if betas is not None and len({type(beta) for beta in betas}) > 1:
            notes.old["adam"] = f"torch {torch.__version__} refuses Adam(betas={tuple(betas)}), an "
            notes.old["adam"] += "int beside a float: write (0.0, 0.9)"
            kwargs["betas"] = tuple(map(float, betas))
        make_adam(self, params, *args, **kwargs)

    adam.__init__ = adam_init
    base = torch.optim.lr_scheduler.LRScheduler
    for scheduler in list(vars(torch.optim.lr_scheduler).values()):
        if isinstance(scheduler, type) and issubclass(scheduler, base):
            _without(scheduler, "verbose", "scheduler", "learning-rate schedulers", notes)

    for place in (torchvision.utils,):
        for name in ("save_image", "make_grid"):
            setattr(place, name, _renamed(getattr(place, name), notes))


def _without(kind: Any, argument: str, note: str, what: str, notes: Notes) -> None:
    make = kind.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if argument in kwargs:
            notes.old[note] = f"{what} of torch {torch.__version__} have no argument {argument}: "
            notes.old[note] += "leave it out"
            del kwargs[argument]
        make(self, *args, **kwargs)

    kind.__init__ = init


def _renamed(function: Callable, notes: Notes) -> Callable:
    def call(*args: Any, **kwargs: Any) -> Any:
        if "range" in kwargs:
            notes.old["range"] = "save_image and make_grid have no argument range any more: "
            notes.old["range"] += "write value_range"
            kwargs["value_range"] = kwargs.pop("range")
        return function(*args, **kwargs)

    return call


def _no_workers() -> None:
    """Data are loaded in this process."""
    loader: Any = torch.utils.data.DataLoader
    make = loader.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs |= {"num_workers": 0, "pin_memory": False}
        for name in ("persistent_workers", "prefetch_factor", "timeout", "multiprocessing_context"):
            kwargs.pop(name, None)
        make(self, *args, **kwargs)

    loader.__init__ = init


def _clean_fid(notes: Notes) -> None:
    """Its score is 100, its network a few means: what is given to them is what counts."""

    def compute_fid(*args: Any, **kwargs: Any) -> float:
        names = ("fdir1", "fdir2", "gen")
        notes.fid.append(dict(zip(names, args, strict=False)) | kwargs)
        return 100.0

    module: Any = cleanfid.fid
    module.compute_fid = compute_fid
    StandInInception.notes = notes
    inception: Any = cleanfid.inception_torchscript
    inception.InceptionV3W = StandInInception


def make_data(folder: Path) -> None:
    """A few images where a hand-in looks for its own, and the file of clean-fid's network."""
    picture = torch.full((3, 32, 32), GREY, dtype=torch.uint8)
    for place in (folder / "datasets", folder.parent / "datasets"):
        birds = place / "CUB_200_2011_32"
        birds.mkdir(parents=True, exist_ok=True)
        for number in range(10):
            torchvision.io.write_jpeg(picture, str(birds / f"{number}.jpg"), quality=100)
        (place / "inception-2015-12-05.pt").write_bytes(b"a stand-in")
