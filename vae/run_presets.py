"""Several runs one after the other, as the command line of train.py names them."""

import contextlib
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dataset import DATA_DIR
from logger import LAYOUT, stopped_improving
from options import arguments_of, recorded

from common import InputError
from common.device import choose_precision
from common.run import Run


def run_presets(args: Namespace, main: Callable[..., Any]) -> None:
    """Train each by train.main; whatever must be refused is refused before the first begins.

    `all` goes on with what was begun; what is finished is left alone.
    """
    place, calls = Path(args.out_dir or DATA_DIR).absolute(), []
    asked, several = args.resume, len(args.runs) > 1 or "all" in args.presets
    for name in args.runs:
        folder = place / name
        begun = (folder / "state.pt").exists() and not args.overwrite
        args.resume = asked if asked and (begun or not several) else begun and several or None
        step = finished(folder, args, name) if begun else 0
        if step:
            print(f"{name}: finished already; --overwrite repeats it")
            continue
        if begun and not asked and "all" not in args.presets:
            args.resume = None
        arguments, options = arguments_of(name, args)
        precision = choose_precision(options.device, not options.disable_amp)
        with Run(folder, LAYOUT, options.resume, options.overwrite) as run:
            run.check(recorded(arguments, options, folder, precision))
        calls.append((folder, arguments, options))
    for folder, arguments, options in calls:
        main(folder, **arguments, options=options)


def finished(folder: Path, args: Namespace, name: str) -> bool:
    """Whether the run there has nothing left to do: no epoch, and no pictures of the last one."""
    args = Namespace(**vars(args) | {"resume": True})
    arguments, _ = arguments_of(name, args)
    with contextlib.suppress(InputError), Run(folder, LAYOUT, True) as run:
        drawn = (folder / f"epoch_{run.step - 1}_samples.png").exists()
        ended = stopped_improving(run.rows, args.patience)
        return (
            run.step > arguments["num_epochs"]
            or drawn
            and (ended or run.step == arguments["num_epochs"])
        )
    return False
