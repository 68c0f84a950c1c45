"""Several runs one after the other, as the command line of train.py names them."""

import contextlib
import signal
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dataset import DATA_DIR
from logger import LAYOUT, stopped_improving
from options import arguments_of, recorded, words_of

from common import InputError, Interrupted
from common.device import choose_precision
from common.run import Run, resume_line


def run_presets(args: Namespace, main: Callable[..., Any]) -> None:
    """Train each by train.main; whatever must be refused is refused before the first begins.

    `all` goes on with what was begun; what is finished is left alone.
    """
    place, calls = Path(args.out_dir or DATA_DIR).absolute(), []
    asked, several = args.resume, len(args.runs) > 1 or "all" in args.presets
    for name in args.runs:
        folder = place / name
        begun = (folder / "state.pt").exists() and not args.overwrite
        # Where several are named, those that are not begun yet begin.
        args.resume = asked if begun or not several else None
        done = begun and is_finished(folder, name, args)
        if done or (begun and "all" in args.presets):
            args.resume = asked or True
        arguments, options = arguments_of(name, args)
        precision = choose_precision(options.device, not options.disable_amp)
        with Run(folder, LAYOUT, options.resume, options.overwrite, options.again) as run:
            run.check(recorded(arguments, options, folder, precision))
        if done:
            print(f"{name}: finished already; --overwrite repeats it")
        else:
            calls.append((name, arguments, options))
    for number, (name, arguments, options) in enumerate(calls):
        if number and Run.last_signal:  # it came when the one before was done
            told = f"stopped by {signal.Signals(Run.last_signal).name} before {name}"
            left = [one.removesuffix("_synthetic") for one, *_ in calls[number:]]
            words = [word for pair in args.given.items() for word in words_of(*pair)]
            line = resume_line(*words, *left)  # several begin with --resume, where they have not
            line = line if len(left) > 1 else line.removesuffix(" --resume")
            raise Interrupted(Run.last_signal, f"{told}; go on with: {line}")
        main(name, **arguments, options=options)


def is_finished(folder: Path, name: str, args: Namespace) -> bool:
    """Whether the run there has nothing left to do: no epoch, and no pictures of the last one."""
    arguments, options = arguments_of(name, Namespace(**vars(args) | {"resume": True}))
    with contextlib.suppress(InputError), Run(folder, LAYOUT, True) as run:
        drawn = (folder / f"epoch_{run.step - 1}_samples.png").exists()
        ended = run.step == arguments["num_epochs"]
        ended = ended or stopped_improving(run.rows, options.patience)
        return run.step > arguments["num_epochs"] or drawn and ended
    return False
