"""How the scripts read their options and end: one line for an error, and its exit code."""

import argparse
import contextlib
import sys
from pathlib import Path

from errors import InputError, Interrupted, NonFiniteError


class OneLineParser(argparse.ArgumentParser):
    """Keeps the line breaks of its description; an error is one line, and exit code 2."""

    def __init__(self, description=None, **options):
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **options
        )

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


def number(kind, minimum, above=False, maximum=2**62 - 1):
    """An argparse type: a `kind` from `minimum`, or above it, to `maximum`, by default what fits a machine word."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not (minimum < value if above else minimum <= value) or value > maximum:
            bound = f"{'>' if above else '>='} {minimum}" + (
                f" and <= {maximum}" if maximum < 2**62 - 1 else ""
            )
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {kind.__name__} {bound}")
        return value

    return parse


@contextlib.contextmanager
def exit_codes():
    """Turns the ways to end early into a line on stderr and an exit code (see errors.py)."""
    program = Path(sys.argv[0]).name
    try:
        yield
    except (InputError, NonFiniteError) as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Interrupted as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a permission: what was saved before is whole
        print(
            f"{program}: error: {error}; free the space or mend the permission, then go on", file=sys.stderr
        )
        sys.exit(InputError.exit_code)
    except KeyboardInterrupt:  # during a set-up, or a second Ctrl-C
        print(f"{program}: stopped; what was saved is whole", file=sys.stderr)
        sys.exit(130)
