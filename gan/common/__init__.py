"""What a run needs, whatever it trains: the same folder twice, byte for byte, in either half.

This file: the ways in which a program ends early, each one line, and its options.
"""

import argparse
import contextlib
import difflib
import errno
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

MENDS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free the space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "mend the permission"),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "a file is where a folder should be; move it"),
}


class InputError(ValueError):
    """Something the user gave cannot be used: one line saying what, got, expected, how to mend."""

    exit_code = 2


class NonFiniteError(RuntimeError):
    """A loss, a weight or an image became NaN or infinite."""

    exit_code = 3


class Interrupted(Exception):
    """A signal arrived and the state is saved; the exit code is 128 + the signal's number."""

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + signal_number


def end_in_one_line(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """A `sys.excepthook`: what is no fault of the program is told in a line, with an exit code."""
    if isinstance(error, InputError | NonFiniteError):
        code, message = error.exit_code, f"error: {error}"
    elif isinstance(error, Interrupted):
        code, message = error.exit_code, str(error)
    elif isinstance(error, OSError):  # a full disk, a permission: what was saved before is whole
        mend = MENDS.get(error.errno or 0, "mend that")
        code, message = InputError.exit_code, f"error: {error}; {mend}, then go on"
    elif isinstance(error, KeyboardInterrupt):  # during a set-up, or a second Ctrl-C
        code, message = 130, "stopped; what was saved is whole"
    else:
        sys.__excepthook__(kind, error, trace)
        return
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(code)


def number(
    kind: type, minimum: float, maximum: float = math.inf, above: bool = False
) -> Callable[[Any], Any]:
    """An argparse type, of text or of a number: int or float, from `minimum` (or above it) on."""
    expected = f"{'a finite float' if kind is float else 'int'} {'>' if above else '>='} {minimum}"
    expected += f" and <= {maximum:g}" if maximum < math.inf else ""

    def check(value: Any) -> Any:
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            got = kind(value)
            other = bool if kind is float else bool | float  # 16.0 is no int to those who use it
            exact = isinstance(value, str) or (got == value and not isinstance(value, other))
            enough = got > minimum if above else got >= minimum
            if exact and enough and got <= maximum and got < math.inf:  # 2.5 is no int
                return got
        raise argparse.ArgumentTypeError(f"got {value!r}, expected {expected}")

    return check


COUNT = number(int, 1, 10**12)
POSITIVE, NOT_NEGATIVE = number(float, 0, above=True), number(float, 0)
SEED = number(int, 0, 2**62)  # what torch takes


def path(text: Any) -> str:
    """An argparse type: not empty, as an unset variable of a shell would be."""
    if not str(text):
        raise argparse.ArgumentTypeError("got an empty path")
    return str(text)


class Parser(argparse.ArgumentParser):
    """Keeps the line breaks of its description; an error is one line, and exit code 2."""

    def __init__(self, description: str | None = None, **options: Any):
        how = argparse.RawDescriptionHelpFormatter
        super().__init__(
            description=description, formatter_class=how, allow_abbrev=False, **options
        )
        sys.excepthook = end_in_one_line

    def error(self, message: str) -> NoReturn:
        """As whatever cannot be used: a line, or an exception in a notebook."""
        raise InputError(message)

    def parse_given(self, argv: Sequence[object] | None = None) -> dict[str, Any]:
        """The options that a command line gives, without defaults."""
        words = [str(word) for word in (sys.argv[1:] if argv is None else argv)]
        names = [word.split("=")[0] for word in words if word.startswith("--")]
        if twice := [name for name in names if names.count(name) > 1]:
            self.error(f"{twice[0]} is given twice; leave one out")
        unset = object()
        blank = argparse.Namespace(**{action.dest: unset for action in self._actions})
        args, unknown = self.parse_known_args(words, blank)
        if unknown:
            proposal = did_you_mean(unknown[0].split("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{proposal}")
        found = {k: v for k, v in vars(args).items() if v is not unset and v != []}
        odd = [name for name in ("data_dir", "download") if name in found]
        if found.get("dataset") == "synthetic" and odd:
            self.error(f"--{odd[0]} goes with --dataset {self.get_default('dataset')}")
        return found

    def defaults(self) -> dict[str, Any]:
        """Of all options."""
        return {a.dest: a.default for a in self._actions if a.default is not argparse.SUPPRESS}

    def check(self, values: dict[str, Any]) -> dict[str, Any]:
        """What a program gives instead of a command line, by the same rules; InputError."""
        actions, checked = {action.dest: action for action in self._actions}, dict(values)
        for name, value in values.items():
            of_type, choices = actions[name].type, actions[name].choices
            many = actions[name].nargs if isinstance(actions[name].nargs, int) else 0
            if (len(value) if isinstance(value, list) else 0) != many:
                raise InputError(f"--{name}: got {value!r}, expected {many or 'one'}")
            try:
                if callable(of_type) and isinstance(value, list):
                    checked[name] = [*map(of_type, value)]
                elif callable(of_type):
                    checked[name] = of_type(value)
            except argparse.ArgumentTypeError as error:
                raise InputError(f"--{name}: {error}") from None
            if checked[name] != value:  # a program has numbers
                raise InputError(f"--{name}: got {value!r}, expected {checked[name]!r}")
            if choices is not None and value not in choices and not callable(value):
                expected = ", ".join(map(str, choices))
                raise InputError(f"--{name}: got {value!r}, expected one of {expected}")
        return checked

    def add_device_options(self) -> None:
        """--device and --disable_amp."""
        add = self.add_argument_group("hardware").add_argument
        add("--device", help="cpu, cuda or cuda:N (cuda where there is one)")
        add("--disable_amp", action="store_true", help="no 16-bit autocast: float32")

    def add_data_options(self, real: str, drawn: str, place: str) -> argparse._ArgumentGroup:
        """--dataset, --data_dir and --download; returns their group."""
        group = self.add_argument_group("data and output")
        add, kinds = group.add_argument, (real, "synthetic")
        add("--dataset", choices=kinds, default=real, help=f"synthetic: {drawn}, no download")
        add("--data_dir", type=path, metavar="FOLDER", help=place)
        add("--download", action="store_true", help="fetch them to --data_dir, if missing there")
        return group

    def add_resume_options(self, group: argparse._ArgumentGroup) -> None:
        """--save_minutes, --resume and --overwrite."""
        add, every = group.add_argument, "minutes between saved states (5)"
        add("--save_minutes", type=POSITIVE, default=5.0, metavar="M", help=every)
        add = group.add_mutually_exclusive_group().add_argument
        on = "go on with all that the run recorded; or from the state or run at this path"
        add("--resume", nargs="?", const=True, type=path, metavar="STATE", help=on)
        add("--overwrite", action="store_true", help="replace the results there")


def check_agreement(given: dict, arguments: dict, call: str) -> None:
    """InputError where a command line and the call of a function say different things."""
    for name, value in arguments.items():
        if name in given and given[name] != value:
            option = "out_dir" if name == "prefix" else name
            write = f"{name}=args.{name}"
            write = write if name != "disable_amp" else "amp_enabled=not args.disable_amp"
            raise InputError(
                f"--{option}: the command line says {given[name]}, the call of {call} {value}; "
                f"write {write} there, or leave the option out"
            )


def name_of(function: Any) -> str:
    """hinge.my_loss, or MyNetwork.forward; a run goes on with the same names only."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return getattr(function, "__name__", type(function).__name__)
    if owner := getattr(function, "__self__", None):
        return f"{type(owner).__name__}.{function.__name__}"
    name = getattr(function, "__qualname__", code.co_name)
    stem = Path(code.co_filename).stem if Path(code.co_filename).is_file() else "notebook"
    return f"{stem}.{name}"


def first_line(error: BaseException) -> str:
    """Of what an exception says, which may be pages; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def tried(function: Callable, *arguments: Any, what: str, name: str = "") -> Any:
    """What a student's function returns; InputError names it where it raises."""
    try:
        return function(*arguments)
    except Exception as error:  # whatever there may be
        name = f"{name or name_of(function)} raised {type(error).__name__}"
        raise InputError(f"{name}: {first_line(error)}; tried before the run, {what}") from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that nobody knows."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def first_few(names: Iterable[str], most: int = 8) -> str:
    """For a message."""
    names = list(names)
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])
