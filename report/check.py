"""Is this hand-in right? Tries its functions on tiny tensors; no GPU, no data, half a minute.

    python report/check.py HANDIN             a folder with gan/ and vae/, either one, or flat code
    python report/check.py HANDIN --question 1.5
    python report/check.py HANDIN --json rows.json --gradescope results.json
    python report/check.py --autograder autograder.zip      what Gradescope takes

It runs the code that it is given, in processes of its own with limits of time and memory, on a
copy, without a network and without a GPU. That keeps accidents small; it is no protection from
malice. For strangers' code use a container without a network and with nothing of value in it:

    docker run --rm --network none -v "$PWD":/work:ro -w /work IMAGE python report/check.py HANDIN

A row a check: right; differs (a legitimate variant, named); wrong (what was seen, what was
expected, what it costs, how to mend it); not there (a TODO); cannot run (and why). Rows are printed
and written as they come. Exit codes: 0 all right, 1 something is not, 2 nothing could be checked.
"""

import argparse
import json
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any
from unittest import mock

from checks import CANNOT_RUN, CHECKS, OLDER, PASSED, VERDICTS
from run_folder import OneLineParser, folders_below, save

HERE = Path(__file__).resolve().parent
SECONDS = 60  # that an import or a check may take
SKIPPED = {"__pycache__", "datasets", "node_modules", "site-packages", "tests", "venv", "wandb"}
# What a half is known by: a class, in this file or in another; where there is none, functions.
SIGNS = {
    "gan": (
        "networks.py",
        "class Discriminator",
        "def (get_optimizers_and_schedulers|compute_discriminator_loss)",
    ),
    "vae": ("model.py", "class (AEModel|VAEEncoder)", "def (vae_loss|run_train_epoch)"),
    "diffusion": ("model.py", "class DiffusionModel", "class DiffusionModel"),
}
# A process begins with these: this folder to import from, no compiled classes (they hide what they
# do), one thread, no GPU.
ENVIRONMENT = {
    **{"PYTHONPATH": str(HERE), "PYTORCH_JIT": "0", "OMP_NUM_THREADS": "1"},
    **{"CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "Agg", "TQDM_DISABLE": "1"},
    "WANDB_MODE": "disabled",
}
Found = tuple[str, str] | None  # a verdict's word and sentence; None: the check does not apply


@dataclass(frozen=True)
class Row:
    """A check and its verdict."""

    question: str
    what: str
    verdict: str
    sentence: str
    name: str


class Unusable(Exception):
    """There is nothing to check."""


def find_halves(folder: Path) -> dict[str, Path]:
    """The folders of gan, vae and diffusion below `folder`.

    Of several: where the class is there, where the file has the handout's name, the folder the
    half's, no backup's; the shallowest.
    """
    found: dict[str, list] = {half: [] for half in SIGNS}
    for path in map(Path, folders_below(folder)):
        way = path.relative_to(folder)
        for file in sorted(path.glob("*.py")) if not SKIPPED & {*way.parts} else ():
            text = ""
            with suppress(OSError):  # a link to nowhere
                text = file.read_text(errors="replace")
            for half, (name, sign, trace) in SIGNS.items():
                lost = not re.search(rf"^{sign}\b", text, re.MULTILINE)
                if not lost or re.search(rf"^{trace}\b", text, re.MULTILINE):
                    alike = bool(OLDER.search(str(way))), file.name != name, len(way.parts)
                    # The networks may lie below the rest.
                    below = path != folder and not (path / "train.py").is_file()
                    place = path.parent if below and (path.parent / "train.py").is_file() else path
                    found[half].append((lost, *alike, path.name != half, str(way), place))
    best = {half: min(those) for half, those in found.items() if those}
    whole = [place for lost, *_, place in best.values() if not lost]
    # A half alone may have a word of the other's.
    return {half: b[-1] for half, b in best.items() if not b[0] or b[-1] not in whole}


class Pool:
    """Starts processes that have the libraries loaded already, and no trace of each other."""

    def __init__(self) -> None:
        self.context: Any = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["checks.worker"])
        with mock.patch.dict(os.environ, ENVIRONMENT):
            forkserver.ensure_running()

    def verdicts(
        self, names: Sequence[str], folder: Path, seconds: int = SECONDS
    ) -> Iterator[tuple[str, Found]]:
        """(name, verdict) of checks of the modules in a folder, as they come."""
        return self.all_verdicts([(names, folder)], 1, seconds)

    def all_verdicts(
        self, lists: Sequence[tuple[Sequence[str], Path]], jobs: int, seconds: int = SECONDS
    ) -> Iterator[tuple[str, Found]]:
        """The same of several lists: each has a process of its own, so many at a time."""
        waiting, running = [(list(names), folder, ()) for names, folder in lists], dict[Any, Any]()
        limit = 3 * seconds + 60  # the first has the libraries loaded
        place = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # of all copies
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    names, folder, dead = waiting.pop(0)
                    ours, theirs = self.context.Pipe(False)
                    how = theirs, str(folder), place.name, names, seconds, dead
                    process = self.context.Process(target=_serve, args=how, daemon=True)
                    process.start()
                    theirs.close()
                    running[ours] = [process, names, folder, dead, ""]
                ready: list[Any] = connection.wait([*running], limit)  # their own limits come first
                for ours in ready or list(running):
                    job = process, left, folder, dead, module = running[ours]
                    try:
                        name, found = ours.recv() if ready else ("", module)
                        if name:
                            left.remove(name)
                            yield name, found
                        job[-1] = module if name else found  # which it begins to import
                        ended = not ready
                    except EOFError:
                        ended = True
                    if ended:
                        del running[ours]
                        _kill(process)
                        why = f"the process ended by itself ({process.exitcode})"
                        why = why if ready else f"nothing came within {limit} s"
                        if module:  # its import is what ended it, or never ends: once more without
                            waiting.append((left, folder, (*dead, module)))
                        else:
                            yield from ((name, (CANNOT_RUN, why)) for name in left)
                limit = 3 * seconds
        finally:
            for process, *_ in running.values():
                _kill(process)
            place.cleanup()

    def run(self, name: str, folder: Path, seconds: int = SECONDS) -> Found:
        """The verdict of one check."""
        return next(found for _, found in self.verdicts([name], folder, seconds))


def _serve(*how: Any) -> None:
    from checks.worker import serve

    serve(*how)


def _kill(process: Any) -> None:
    """A process and those of its session."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def rows_of(
    folder: Path, pool: Pool | None = None, jobs: int | None = None, question: str = ""
) -> Iterator[Row]:
    """A row for every check that applies, as they come; Unusable where no hand-in is found."""
    if not folder.is_dir():
        raise Unusable(f"{folder} is not a folder; give the one that holds gan/ and vae/")
    halves = find_halves(folder)
    if not halves:
        books = "; notebooks are not read: save their code as .py" * any(folder.rglob("*.ipynb"))
        raise Unusable(
            f"no hand-in in {folder}; expected networks.py with a Discriminator, or model.py with "
            f"an AEModel or a DiffusionModel, at any depth{books}"
        )
    import checks.diffusion  # torch comes with them: not before there is something to check
    import checks.gan
    import checks.vae  # noqa: F401

    wanted = [one for one in CHECKS if one.half in halves]
    numbers = sorted({one.question for one in wanted})
    wanted = [one for one in wanted if question in ("", one.question)]
    if not wanted:
        raise Unusable(f"--question: got {question}, expected one of {', '.join(numbers)}")
    pool, jobs = pool or Pool(), jobs or os.cpu_count() or 1
    lists: list[tuple[list[str], Path]] = []
    for half in halves:
        those = [one for one in wanted if one.half == half]
        groups = list(dict.fromkeys(one.group or one.name for one in those))
        # A process for each core; few checks are not worth a second import.
        parts = max(1, jobs // len(halves)) if len(those) > 5 else 1
        for mine in (groups[part::parts] for part in range(parts)):
            names = [one.name for one in those if (one.group or one.name) in mine]
            lists += [(names, halves[half])] * bool(names)
    of = {one.name: one for one in wanted}
    for name, found in pool.all_verdicts(lists, jobs):
        if found:
            yield Row(of[name].question, of[name].what, *found, name)


def in_order(rows: Sequence[Row]) -> list[Row]:
    """By question, and within one as the checks are listed."""
    at = {one.name: number for number, one in enumerate(CHECKS)}
    return sorted(rows, key=lambda row: (row.question, at[row.name]))


def passed(rows: Sequence[Row]) -> bool:
    """Whether nothing is wrong, missing or broken."""
    return all(row.verdict in PASSED for row in rows)


# A check that fails only because another one does: one cause is paid once.
CAUSES = {
    **dict.fromkeys(("gan.scores_alone", "gan.block_down", "gan.score_of_sum"), "gan.pooling"),
    "gan.block_up": "gan.upsampling",
    **{"vae.vae_encoder_layers": "vae.encoder_layers", "vae.kl_extremes": "vae.kl_value"},
}


def gradescope(rows: Sequence[Row]) -> dict:
    """The results.json that Gradescope reads: 100 points, as many for each question.

    Rows share those of their question. A row whose cause fails, too, or that says the same as an
    earlier one that fails, is shown and costs nothing.
    """
    failed: dict[str, str] = {}
    free = set()  # rows that cost nothing
    for row in rows:
        if row.verdict not in PASSED:
            if CAUSES.get(row.name) in failed or row.sentence in failed.values():
                free.add(row.name)
            failed[row.name] = row.sentence
    counted = Counter(row.question for row in rows if row.name not in free)
    tests = []
    for number, row in enumerate(rows, start=1):
        most = 0.0 if row.name in free else 100 / len(counted) / counted[row.question]
        fine = row.verdict in PASSED
        tests.append(
            {
                **{"number": f"{row.question}.{number}", "name": row.what, "max_score": most},
                **{"score": most if fine else 0.0, "status": "passed" if fine else "failed"},
                "output": f"{row.verdict}. {row.sentence}".strip(),
            }
        )
    return {"tests": tests, "output": summary(rows)}


SETUP = """#!/usr/bin/env bash
set -e
apt-get update && apt-get install -y python3 python3-venv
python3 -m venv /autograder/venv
/autograder/venv/bin/{torch}
/autograder/venv/bin/pip install numpy scipy matplotlib pillow clean-fid tensorboard tqdm
"""
RUN = """#!/usr/bin/env bash
cd "${AUTOGRADER:-/autograder}"
python=venv/bin/python
[ -x "$python" ] || python=python3
timeout 540 "$python" source/check.py submission --gradescope results/results.json
[ $? -ne 2 ] || [ -f results/results.json ] ||
    echo '{"score": 0, "output": "no gan/ or vae/ found: hand in their .py files"}' \\
        > results/results.json
"""


def autograder(target: Path) -> None:
    """The archive that Gradescope takes: set-up, run script, this checker."""
    readme = (HERE.parent / "README.md").read_text()
    (torch,) = re.findall(r"\.venv/bin/(pip install torch torchvision .*)", readme)  # CPU alone
    own = [HERE / "check.py", HERE / "run_folder.py", *sorted((HERE / "checks").glob("*.py"))]

    def write_zip(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in (("setup.sh", SETUP.format(torch=torch)), ("run_autograder", RUN)):
                info = zipfile.ZipInfo(name)
                info.external_attr = 0o755 << 16
                archive.writestr(info, text)
            for file in own:
                archive.write(file, file.relative_to(HERE))

    save(target, write_zip)


def summary(rows: Sequence[Row]) -> str:
    """How many of each verdict."""
    counts = Counter(row.verdict for row in rows)
    shown = ", ".join(f"{counts[word]} {word}" for word in VERDICTS if counts[word])
    return f"{len(rows)} checks: {shown}"


def line(row: Row) -> str:
    """For a terminal; what is not right with its sentence."""
    below = f"\n     {'':<10}  {row.sentence}" if row.sentence else ""
    return f"{row.question:<5}  {row.verdict:<10}  {row.what}{below}"


def get_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = OneLineParser(__doc__)
    parser.path("folder", "HANDIN", "the hand-in", nargs="?")
    for name, what in (
        ("json", "rows as JSON (- for the terminal)"),
        ("gradescope", "Gradescope's results.json"),
        ("autograder", "check nothing; write the archive that Gradescope takes"),
    ):
        parser.path(f"--{name}", "FILE", what)
    parser.add_argument("--question", default="", metavar="N", help="of this question alone: 1.5")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes at a time (all cores)")
    args = parser.parse_args(argv)
    if args.jobs is not None and args.jobs < 1:
        parser.error(f"--jobs: got {args.jobs}, expected a whole number >= 1")
    if (args.folder is None) == (args.autograder is None):
        parser.error("give a hand-in, or --autograder FILE alone")
    return args


def not_tried(folder: Path, question: str) -> list[Row]:
    """Of each check, what stands there until it has its row: the program may be stopped."""
    halves, why = find_halves(folder), (CANNOT_RUN, "not tried: the checker was stopped")
    those = [one for one in CHECKS if one.half in halves and question in ("", one.question)]
    return [Row(one.question, one.what, *why, one.name) for one in those]


def as_json(rows: Sequence[Row]) -> str:
    """For programs."""
    return json.dumps([asdict(row) for row in rows], indent=2)


def write(rows: Sequence[Row], args: argparse.Namespace, left: Sequence[Row] = ()) -> None:
    """What is asked for, moved into place once it is whole; points with what is left to try."""
    points = json.dumps(gradescope(in_order([*rows, *left])), indent=2)
    for target, text in ((args.json, as_json(rows)), (args.gradescope, points)):
        if target not in (None, "-"):
            save(Path(target), partial(Path.write_text, data=f"{text}\n"))


def main(args: argparse.Namespace) -> int:
    """Check, print, write; returns the exit code."""
    rows: list[Row] = []
    left: dict[str, Row] = {}
    try:
        targets = [t for t in (args.json, args.gradescope, args.autograder) if t]
        if len({*targets}) < len(targets):
            raise Unusable(f"{targets[0]} is given twice; give each its own file")
        if "-" in (args.gradescope, args.autograder):
            raise Unusable("-: what Gradescope takes is a file; give its name")
        for target in targets:  # before the work
            if target != "-" and not Path(target).absolute().parent.is_dir():
                raise Unusable(f"cannot write {target}: no folder {Path(target).parent}; make it")
            if Path(target).is_dir():
                raise Unusable(f"cannot write {target}: it is a folder, expected a file")
        if args.autograder:
            autograder(Path(args.autograder))
            print(f"For Gradescope's autograder page: {args.autograder}")
            return 0
        folder = Path(args.folder).resolve()
        for row in rows_of(folder, jobs=args.jobs, question=args.question):
            if args.gradescope and not rows:  # the checks are imported by now
                left = {one.name: one for one in not_tried(folder, args.question)}
            rows.append(row)
            left.pop(row.name, None)
            if "-" not in targets:
                print(line(row), flush=True)
            write(in_order(rows), args, [*left.values()])
        rows = in_order(rows)
        write(rows, args)
        if "-" in targets:
            print(as_json(rows))
        else:
            judged = ", ".join(f"{half} in {path}" for half, path in find_halves(folder).items())
            print(f"\n{summary(rows)}\njudged: {judged}")
    except (Unusable, OSError) as error:
        print(f"check.py: error: {error}", file=sys.stderr)
        return 2
    return 0 if passed(rows) else 1


def stop(number: int, frame: object) -> None:
    """A handler of signals."""
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    try:
        code = main(get_args())
    except KeyboardInterrupt as error:
        print("check.py: stopped; what was written is whole", file=sys.stderr, flush=True)
        code = 128 + (error.args or (signal.SIGINT,))[0]
    sys.exit(code)
