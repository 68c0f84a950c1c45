"""The checks of check.py: what a hand-in's own functions do with tiny tensors.

A check is a function of a `HandIn` that returns a `Verdict`. Each runs in a fork of a process that
has the hand-in imported (worker.py), among stand-ins for a GPU, old libraries, data and downloads
(stand_ins.py).
"""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

RIGHT, DIFFERS, WRONG = "right", "differs", "wrong"
NOT_THERE, CANNOT_RUN = "not there", "cannot run"
VERDICTS = (RIGHT, DIFFERS, WRONG, NOT_THERE, CANNOT_RUN)
PASSED = (RIGHT, DIFFERS)  # a legitimate variant is no slip


OLDER = re.compile(r"(?<![a-z])(backups?|old|copy|orig(inal)?|drafts?)(?![a-z])", re.IGNORECASE)


class Verdict(NamedTuple):
    """A word of VERDICTS, and what was seen, expected, lost, and to be done."""

    word: str
    sentence: str = ""


class Slip(Exception):
    """A verdict that a part of a check has come to."""


class NotThere(Slip):
    """What a check needs is still a TODO, or has another name; the message names it."""

    def __init__(self, sentence: str):
        super().__init__(Verdict(NOT_THERE, sentence))


class HandIn:
    """The modules of one half of a hand-in, imported from a copy of its folder."""

    def __init__(self, folder: Path, notes: Any):
        self.folder, self.notes = folder, notes  # stand_ins.Notes
        self.never: dict[str, str] = {}  # module -> why its import is not tried again
        self.files: set[Path] = set()  # what is there before a check
        self.tell: Callable = print  # to the process that waits
        self._shared: dict = {}

    def module(self, name: str) -> Any:
        """Import it; NotThere where there is no such file."""
        if not (self.folder / f"{name.replace('.', '/')}.py").is_file():
            raise NotThere(f"there is no {name}.py")
        if name in self.never:
            raise TimeoutError(self.never[name])
        return importlib.import_module(name)

    def home(self, module: str, name: str) -> Any:
        """The module that has this function or class: the handout's, or one of another name."""
        if (self.folder / f"{module}.py").is_file():
            found = self.module(module)
            if hasattr(found, name):
                return found
        defined = re.compile(rf"^(class|def) {name}\b", re.MULTILINE)
        for path in sorted(self.folder.rglob("*.py"), key=lambda path: (len(path.parts), path)):
            parts = path.relative_to(self.folder).with_suffix("").parts
            usable = all(map(str.isidentifier, parts)) and not any(map(OLDER.search, parts))
            if usable and defined.search(path.read_text(errors="replace")):
                return self.module(".".join(parts))
        raise NotThere(f"there is no {name}: neither in {module}.py nor in another file")

    def get(self, module: str, name: str) -> Any:
        """A public name of a module, or of the module where it is."""
        return getattr(self.home(module, name), name)

    def shared(self, kind: Callable, *arguments: Any) -> Any:
        """What several checks of a group look at, made once."""
        if (kind, arguments) not in self._shared:
            self.tell("shared begins")
            self._shared[kind, arguments] = kind(self, *arguments)
            self.tell("shared is there")
        return self._shared[kind, arguments]

    def calls_of_main(self, script: str, function: str, *argv: str) -> list[dict]:
        """The arguments that a script's `if __name__ == "__main__"` calls a function with.

        What stands there is run; the function is recorded instead. With its defaults.
        """
        module, path, calls = self.module(script), self.folder / f"{script}.py", []
        original = getattr(module, function, None) or self.get("train", function)
        body = ast.parse(path.read_bytes()).body  # bytes: there may be a BOM
        blocks = [n for n in body if isinstance(n, ast.If) and "__name__" in ast.unparse(n.test)]
        if not blocks:
            raise NotThere(f'{script}.py has no if __name__ == "__main__": it is not looked into')
        signature = inspect.signature(original)  # by name, however the arguments are given

        def record(*args: Any, **kwargs: Any) -> list:
            given = signature.bind_partial(*args, **kwargs)
            given.apply_defaults()
            calls.append(dict(given.arguments))
            return []

        # In every module: the block may call a main() that calls it, or train.train_model.
        spaces = [vars(one) for one in sys.modules.values() if _is_within(one, self.folder)]
        places = [(space, name) for space in spaces for name in space if space[name] is original]
        for place, name in places:
            place[name] = record
        space = vars(module) | {"__name__": "__main__"}
        sys.argv = [str(path), *argv]
        try:
            for block in blocks:
                exec(compile(ast.Module(block.body, []), str(path), "exec"), space)
        except Exception:  # it makes use of what the function returns
            if not calls:
                raise
        finally:
            for place, name in places:
                place[name] = original
        return calls


def _is_within(module: Any, folder: Path) -> bool:
    """Whether it is one of the hand-in's own."""
    return str(getattr(module, "__file__", None) or "").startswith(f"{folder}/")


def right(sentence: str = "") -> Verdict:
    """As the assignment says."""
    return Verdict(RIGHT, sentence)


def differs(sentence: str) -> Verdict:
    """Not as the assignment says, and legitimate."""
    return Verdict(DIFFERS, sentence)


def wrong(seen: str, expected: str = "", cost: str = "", mend: str = "") -> Verdict:
    """A slip, in one sentence; what is not given is what its check says."""
    one = at_work[0]
    expected, cost, mend = expected or one.expected, cost or one.cost, mend or one.mend
    return Verdict(WRONG, f"{seen}; expected {expected}. It costs: {cost}. To mend it: {mend}.")


def remarked(remarks: Sequence[str]) -> Verdict:
    """Right, or a legitimate variant where there are remarks."""
    return differs("; ".join(remarks)) if remarks else right()


@dataclass(frozen=True)
class Check:
    """A row of the result."""

    half: str  # gan, vae or diffusion: which modules it imports
    question: str
    function: Callable[[HandIn], Verdict | None]  # None: does not apply to this hand-in
    what: str
    name: str  # short, and the same from one version to the next
    expected: str = ""  # what `wrong` says, if a branch does not say it
    cost: str = "unknown"
    mend: str = "as the handout has it"
    old: tuple[str, ...] = ()  # old calls (see stand_ins.py) that this row remarks on
    group: str = ""  # checks that share a process, and a costly part


CHECKS: list[Check] = []
at_work: list[Check] = []  # the check under way, in its process


def check(
    half: str, question: str, *words: Any, name: str = "", what: str = "", **more: Any
) -> Any:
    """Decorator: the function is a check of that question; its docstring says of what.

    words, more: the rest of a Check. name, what: for a function that has none.
    """

    def register(function: Callable) -> Callable:
        called = f"{half}.{name or function.__name__}"
        told = what or (function.__doc__ or "").rstrip(".")
        CHECKS.append(Check(half, question, function, told, called, *words, **more))
        return function

    return register
