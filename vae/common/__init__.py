"""What a run needs, whatever it trains: the same folder twice, byte for byte, in either half.

This file: the three ways in which a run ends early, and the exit code of each.
"""


class InputError(ValueError):
    """Something the user gave cannot be used: one line saying what, got, expected, how to mend."""

    exit_code = 2


class NonFiniteError(RuntimeError):
    """A loss, a weight or an image became NaN or infinite."""

    exit_code = 3


class Interrupted(Exception):
    """A signal arrived and the state has been saved; the exit code is 128 + the signal's number."""

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + signal_number
