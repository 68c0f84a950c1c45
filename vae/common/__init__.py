"""What a run needs, whatever it trains: the same folder twice, byte for byte, in either half.

This file: the ways in which a program ends early, each one line, and its options.
"""

import argparse
import difflib
import errno
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

HUGE = 2**62 - 1  # what fits a machine word
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
    kind: type, minimum: float, maximum: float = HUGE, above: bool = False
) -> Callable[[Any], Any]:
    """An argparse type: a finite int or float between bounds, included unless `above`.

    It takes a command line's text, or the number that a program gives.
    """
    bound = f"{'>' if above else '>='} {minimum}"
    expected = f"{'a finite float' if kind is float else 'int'} {bound}"
    expected += f" and <= {maximum}" if maximum < HUGE else ""

    def check(value: Any) -> Any:
        try:
            got = math.nan if isinstance(value, bool) else kind(value)
            exact = isinstance(value, str) or got == value  # 2.5 is no int
        except (TypeError, ValueError, OverflowError):
            got, exact = math.nan, False
        if exact and maximum == HUGE < got < math.inf:
            raise argparse.ArgumentTypeError(f"got {value!r}, expected {kind.__name__} <= {HUGE}")
        if not exact or not minimum <= got <= maximum or (above and got == minimum):
            raise argparse.ArgumentTypeError(f"got {value!r}, expected {expected}")
        return got

    return check


COUNT, POSITIVE, NOT_NEGATIVE = number(int, 1), number(float, 0, above=True), number(float, 0)
SEED = number(int, 0)


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
        """End the program."""
        self.exit(2, f"{self.prog}: error: {message}\n")

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
        found = {name: value for name, value in vars(args).items() if value is not unset}
        return {
            name: tuple(v) if isinstance(v, list) else v for name, v in found.items() if v != []
        }

    def defaults(self) -> dict[str, Any]:
        """Of all options."""
        known = (action for action in self._actions if action.default is not argparse.SUPPRESS)
        return {action.dest: action.default for action in known}

    def check(self, values: dict[str, Any]) -> dict[str, Any]:
        """What a program gives instead of a command line, by the same rules; InputError."""
        actions = {action.dest: action for action in self._actions}
        for name, value in values.items():
            if name not in actions:
                raise InputError(f"{name}: there is no such option{did_you_mean(name, actions)}")
            values = values | {name: _checked(actions[name], value)}
        return values

    def add_device_options(self) -> None:
        """--device and --disable_amp."""
        group = self.add_argument_group("hardware")
        group.add_argument("--device", help="cpu, cuda or cuda:N (cuda where there is one)")
        group.add_argument("--disable_amp", action="store_true", help="no 16-bit autocast: float32")

    def add_resume_options(self, group: argparse._ArgumentGroup) -> None:
        """--save_minutes, --resume and --overwrite."""
        group.add_argument(
            "--save_minutes",
            type=POSITIVE,
            default=5.0,
            metavar="M",
            help="minutes between saved states (5)",
        )
        group.add_argument(
            "--resume",
            nargs="?",
            const=True,
            type=path,
            metavar="STATE",
            help="go on with all that the run recorded; or from the state or run at this path",
        )
        group.add_argument("--overwrite", action="store_true", help="replace the results there")


def _checked(action: argparse.Action, value: Any) -> Any:
    if value is None or (callable(value) and not isinstance(value, type)):
        return value
    several = isinstance(value, list | tuple)
    values = list(value) if several else [value]
    try:
        if action.nargs and isinstance(action.nargs, int) and len(values) != action.nargs:
            raise argparse.ArgumentTypeError(f"got {value!r}, expected {action.nargs} values")
        if callable(action.type):
            values = [action.type(part) for part in values]
        if action.choices is not None and not set(values) <= set(action.choices):
            choices = ", ".join(map(str, action.choices))
            raise argparse.ArgumentTypeError(f"got {value!r}, expected one of {choices}")
    except (argparse.ArgumentTypeError, TypeError) as error:
        raise InputError(f"--{action.dest}: {error}") from None
    return tuple(values) if several else values[0]


def check_agreement(given: dict, arguments: dict, call: str) -> None:
    """InputError where a command line and the call of a function say different things."""
    for name, value in arguments.items():
        if name in given and given[name] != value:
            option = "out_dir" if name == "prefix" else name
            write = (
                f"{name}=args.{name}"
                if name != "disable_amp"
                else ("amp_enabled=not args.disable_amp")
            )
            raise InputError(
                f"--{option}: the command line says {given[name]}, the call of {call} {value}; "
                f"write {write} there, or leave the option out"
            )


def name_of(function: Callable) -> str:
    """File and own name, as in schedules.mine; a run goes on with the same names only."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return getattr(function, "__name__", type(function).__name__)
    name = getattr(function, "__qualname__", code.co_name)
    stem = Path(code.co_filename).stem if Path(code.co_filename).is_file() else "notebook"
    return f"{stem}.{name}"


def tried(function: Callable, *arguments: Any, what: str, name: str = "") -> Any:
    """What a student's function returns; InputError names it where it raises."""
    try:
        return function(*arguments)
    except Exception as error:  # whatever there may be
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        name = f"{name or called(function)} raised {type(error).__name__}"
        raise InputError(f"{name}: {reason}; tried before the run, {what}") from None


def called(function: Callable) -> str:
    """How a message names it: MyNetwork.forward, hinge.my_loss."""
    owner = getattr(function, "__self__", None)
    if owner is None:
        return name_of(function)
    return f"{type(owner).__name__}.{function.__name__}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that nobody knows."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def first_few(names: Iterable[str], most: int = 8) -> str:
    """For a message."""
    names = list(names)
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])
