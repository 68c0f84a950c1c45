"""Options: what a setting may be, how a command line gives it, and how a program ends.

A setting is a field of a dataclass, made by `option`: its default, its bounds and its help stand
there and nowhere else. Nothing here needs torch, so a slip of the pen is told before it loads.
"""

import argparse
import contextlib
import dataclasses
import errno
import math
import numbers
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import InputError, Interrupted, NonFiniteError

HUGE = 2**62 - 1  # what fits a machine word
UNNAMED = "unnamed"  # the data set of a program that brings images of its own


@dataclass(frozen=True)
class Number:
    """An int or a float between bounds, both included unless `above`; an argparse type."""

    kind: type
    minimum: float
    maximum: float = HUGE
    above: bool = False  # the minimum itself is too small

    def allows(self, value: Any) -> bool:
        """Whether `value` is such a number; booleans, NaN and infinities are not."""
        kind: Any = numbers.Integral if self.kind is int else numbers.Real
        if not isinstance(value, kind) or isinstance(value, bool):
            return False
        return self.minimum <= value <= self.maximum and not (self.above and value == self.minimum)

    def __str__(self) -> str:
        upper = f" and <= {self.maximum}" if self.maximum < HUGE else ""
        return f"{self.kind.__name__} {'>' if self.above else '>='} {self.minimum}{upper}"

    def refusal(self, value: Any) -> str:
        """What is expected instead of `value`; of a number that is too large, the upper bound."""
        real: Any = numbers.Real
        if self.maximum == HUGE and isinstance(value, real) and HUGE < value < math.inf:
            return f"{self.kind.__name__} <= {self.maximum}"
        return str(self)

    def __call__(self, text: str) -> float:
        """Of the command line's text."""
        try:
            value = self.kind(text)
        except ValueError:
            value = None
        if not self.allows(value):
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {self.refusal(value)}")
        return value


def path(text: str) -> str:
    """An argparse type: not empty, as an unset variable of a shell would be."""
    if not text:
        raise argparse.ArgumentTypeError("got an empty path")
    return text


def option(
    default: Any,
    help: str | None = None,
    *,
    label: str | None = None,
    may_change: bool = False,
    also: tuple = (),
    **how: Any,
) -> Any:
    """A dataclass field: a setting, and with `help` an option of the command line.

    how: what else argparse is told (type, choices, nargs, ...). may_change: a run may be resumed
    with another value; two settings are equal whatever it is. label: what messages call it. also:
    what a program may choose besides the choices.
    """
    metadata: dict = {"option": help is not None, "label": label, "also": also}
    metadata["how"] = {"help": help} | how
    return dataclasses.field(default=default, compare=not may_change, metadata=metadata)


def check_settings(settings: Any) -> None:
    """Raise InputError for the first field whose value is none that its option allows.

    Values become builtins (numpy's numbers, paths, lists), as config.json and states need them.
    """
    for field in dataclasses.fields(settings):
        object.__setattr__(settings, field.name, _builtin(getattr(settings, field.name)))
    for field in dataclasses.fields(settings):
        how, value = field.metadata.get("how", {}), getattr(settings, field.name)
        expected = how.get("type")
        values = value if "nargs" in how and isinstance(value, tuple) else (value,)
        if isinstance(expected, Number) and not (value is None and field.default is None):
            wrong = [part for part in values if not expected.allows(part)]
            if wrong or len(values) != how.get("nargs", 1):
                refusal = expected.refusal(wrong[0] if wrong else None)
                raise InputError(f"--{field.name}: got {value!r}, expected {refusal}")
        if "choices" in how and value not in (*how["choices"], *field.metadata["also"]):
            choices = ", ".join(how["choices"])
            raise InputError(f"--{field.name}: got {value!r}, expected one of {choices}")


def _builtin(value: Any) -> Any:
    """The same as a bool, int, float, str, tuple or None."""
    if isinstance(value, list | tuple):
        return tuple(map(_builtin, value))
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    real: Any = numbers.Real
    return float(value) if isinstance(value, real) and not isinstance(value, bool) else value


class OneLineParser(argparse.ArgumentParser):
    """Keeps the line breaks of its description; an error is one line, and exit code 2."""

    def __init__(self, description: str | None = None, **options: Any):
        how = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=how, **options)
        sys.excepthook = _one_line_for_ctrl_c

    def error(self, message: str) -> Any:
        """End the program."""
        self.exit(2, f"{self.prog}: error: {message}\n")

    def add_settings(self, title: str, settings: type, *names: str) -> argparse._ArgumentGroup:
        """A group of options for these fields; one that is not given is not in the result."""
        group = self.add_argument_group(title)
        for name in names:
            how = settings.__dataclass_fields__[name].metadata["how"]  # type: ignore[attr-defined]
            group.add_argument(f"--{name}", default=argparse.SUPPRESS, **how)
        return group

    def add_device_options(self) -> None:
        """--device and --disable_amp."""
        group = self.add_argument_group("hardware")
        group.add_argument(
            "--device", help="cpu, cuda or cuda:N (default: cuda where there is one)"
        )
        group.add_argument("--disable_amp", action="store_true", help="no 16-bit autocast: float32")

    def add_resume_options(self, group: argparse._ArgumentGroup) -> None:
        """--resume and --overwrite."""
        group.add_argument(
            "--resume",
            nargs="?",
            const=True,
            type=path,
            metavar="STATE",
            help="go on from the run folder's state, or from a path",
        )
        group.add_argument("--overwrite", action="store_true", help="replace the results there")


def given_settings(args: argparse.Namespace, settings: type) -> dict[str, Any]:
    """The settings that a command line gave, by name."""
    options = {field.name for field in dataclasses.fields(settings) if field.metadata.get("option")}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(args).items()
        if name in options
    }


MENDS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free the space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "mend the permission"),
}


def refuse_to_run(name: str, instead: str) -> None:
    """End a module that was started as a script and is none."""
    print(f"{name}: error: this is a part, not a command; run {instead}", file=sys.stderr)
    sys.exit(InputError.exit_code)


def _one_line_for_ctrl_c(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """As sys.excepthook: Ctrl-C while modules are loaded is no error of anybody's."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"{Path(sys.argv[0]).name}: stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Turn the ways to end early into a line on stderr and an exit code."""
    program = Path(sys.argv[0]).name
    try:
        yield
    except (InputError, NonFiniteError) as error:
        code, message = error.exit_code, f"error: {error}"
    except Interrupted as error:
        code, message = error.exit_code, str(error)
    except OSError as error:  # a full disk, a permission: what was saved before is whole
        mend = MENDS.get(error.errno or 0, "mend that")
        code, message = InputError.exit_code, f"error: {error}; {mend}, then go on"
    except KeyboardInterrupt:  # during a set-up, or a second Ctrl-C
        code, message = 130, "stopped; what was saved is whole"
    else:
        return
    print(f"{program}: {message}", file=sys.stderr)
    sys.exit(code)
