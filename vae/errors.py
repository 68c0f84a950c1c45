"""The three ways in which a run ends early, and the exit code of each."""


class InputError(ValueError):
    """Something the user gave cannot be used: one line saying what, got, expected, how to mend."""

    exit_code = 2


class NonFiniteError(RuntimeError):
    """A loss, a weight or an image became NaN or infinite."""

    exit_code = 3


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived; the state has been saved. The exit code is 128 + signal number."""

    def __init__(self, signal_number, message):
        super().__init__(message)
        self.exit_code = 128 + signal_number
