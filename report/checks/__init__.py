"""The checks of check.py: what a hand-in's own functions do with tiny tensors.

A check is a function of a `HandIn` that returns a `Verdict`. Each runs in a process of its own
(worker.py), among stand-ins for a GPU, old libraries, data and downloads (stand_ins.py).
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RIGHT, DIFFERS, WRONG = "right", "differs", "wrong"
NOT_THERE, CANNOT_RUN = "not there", "cannot run"
VERDICTS = (RIGHT, DIFFERS, WRONG, NOT_THERE, CANNOT_RUN)
PASSED = (RIGHT, DIFFERS)  # a legitimate variant is no slip


@dataclass(frozen=True)
class Verdict:
    """A word of VERDICTS, and what was seen, expected, lost, and to be done."""

    word: str
    sentence: str = ""


class NotThere(Exception):
    """What a check needs is still a TODO, or has another name; the message names it."""


class HandIn:
    """The modules of one half of a hand-in, imported from a copy of its folder."""

    def __init__(self, folder: Path, notes: Any):
        self.folder, self.notes = folder, notes  # stand_ins.Notes

    def module(self, name: str) -> Any:
        """Import it; NotThere where there is no such file."""
        if not (self.folder / f"{name}.py").is_file():
            raise NotThere(f"there is no {name}.py")
        return importlib.import_module(name)

    def get(self, module: str, name: str) -> Any:
        """A public name of a module."""
        found = getattr(self.module(module), name, None)
        if found is None:
            raise NotThere(f"{module}.py has no {name}")
        return found


def right(sentence: str = "") -> Verdict:
    """As the assignment says."""
    return Verdict(RIGHT, sentence)


def differs(sentence: str) -> Verdict:
    """Not as the assignment says, and legitimate."""
    return Verdict(DIFFERS, sentence)


def wrong(seen: str, expected: str, cost: str, mend: str) -> Verdict:
    """A slip, in one sentence."""
    return Verdict(WRONG, f"{seen}; expected {expected}. It costs: {cost}. To mend it: {mend}.")


@dataclass(frozen=True)
class Check:
    """A row of the result."""

    half: str  # gan, vae or diffusion: which modules it imports
    question: str
    what: str
    function: Callable[[HandIn], Verdict | None]  # None: does not apply to this hand-in
    old: tuple[str, ...]  # old calls (see stand_ins.py) that make this row "cannot run"

    @property
    def name(self) -> str:
        """Short, and the same from one version to the next."""
        return f"{self.half}.{self.function.__name__}"


CHECKS: list[Check] = []


def check(half: str, question: str, what: str, old: tuple[str, ...] = ()) -> Callable:
    """Decorator: the function is a check of that question."""

    def register(function: Callable) -> Callable:
        CHECKS.append(Check(half, question, what, function, old))
        return function

    return register


def named(name: str) -> Check:
    """The check of that name."""
    return next(one for one in CHECKS if one.name == name)
