"""Is this hand-in right? Tries its functions on tiny tensors; no GPU, no data, half a minute.

    python report/check.py HANDIN             a folder with gan/ and vae/, either one, or flat code
    python report/check.py HANDIN --question 1.5
    python report/check.py HANDIN --json results --csv rows.csv --gradescope results.json
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
import csv
import io
import json
import multiprocessing
import os
import queue
import re
import signal
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from checks import CANNOT_RUN, NOT_THERE, OLDER
from run_folder import OneLineParser, folders_below, save, some_path

HERE = Path(__file__).resolve().parent
SECONDS = 60  # that an import or a check may take
SKIPPED = {"__pycache__", "datasets", "node_modules", "site-packages", "venv", "wandb"}
# What a half is known by: a class, in this file or in another.
SIGNS = {
    "gan": ("networks.py", r"^class Discriminator\b"),
    "vae": ("model.py", r"^class (AEModel|VAEEncoder)\b"),
    "diffusion": ("model.py", r"^class DiffusionModel\b"),
}
# A half whose class is not there is known by these, and told of.
TRACES = {
    "gan": (r"^def (get_optimizers_and_schedulers|compute_discriminator_loss)\b", "1.1"),
    "vae": (r"^def (vae_loss|run_train_epoch)\b", "2.1"),
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

    Of several: where the file has the handout's name, the folder the half's, no backup's; the
    shallowest.
    """
    found: dict[str, tuple] = {}
    for path in map(Path, folders_below(folder)):
        way = path.relative_to(folder)
        if SKIPPED & {*way.parts}:
            continue
        for file in sorted(path.glob("*.py")):
            text = _text(file)
            for half, (name, word) in SIGNS.items():
                if re.search(word, text, re.MULTILINE):
                    older = bool(OLDER.search(str(way)))
                    rank = (older, file.name != name, len(way.parts), path.name != half, str(way))
                    # The networks may lie below the rest.
                    below = path != folder and not (path / "train.py").is_file()
                    place = path.parent if below and (path.parent / "train.py").is_file() else path
                    found[half] = min(found.get(half, (rank, place)), (rank, place))
    return {half: found[half][1] for half in SIGNS if half in found}


def lost_halves(folder: Path, halves: dict[str, Path]) -> Iterator["Row"]:
    """A row for each half that is not among those found, and of which there is something else."""
    files = [
        file
        for path in map(Path, folders_below(folder))
        for file in sorted(path.glob("*.py"))
        if not SKIPPED & {*path.relative_to(folder).parts} and path not in halves.values()
    ]
    for half, (words, question) in TRACES.items():
        found = [file for file in files if re.search(words, _text(file), re.MULTILINE)]
        if found and half not in halves:
            kind = "Discriminator" if half == "gan" else "AEModel"
            lost = f"there is no class {kind}, neither in {SIGNS[half][0]} nor in another file"
            sentence = f"{lost}: nothing of {found[0].relative_to(folder)} is judged"
            yield Row(question, f"the networks of {half}/", NOT_THERE, sentence, f"{half}.there")


def _text(path: Path) -> str:
    """Of a file; none where it cannot be read: a link to nowhere, for one."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


working: set[int] = set()  # processes that have checks to do


def end_all() -> None:
    """For a program that is stopped: nothing goes on computing."""
    for pid in [*working]:
        _kill(pid)


class Pool:
    """Starts processes that have the libraries loaded already, and no trace of each other."""

    def __init__(self) -> None:
        methods = multiprocessing.get_all_start_methods()
        self.context: Any = multiprocessing.get_context(
            "forkserver" if "forkserver" in methods else "spawn"
        )
        before = {name: os.environ.get(name) for name in ENVIRONMENT}
        os.environ.update(ENVIRONMENT)
        try:
            if hasattr(self.context, "set_forkserver_preload"):
                self.context.set_forkserver_preload(["checks.worker"])
                from multiprocessing import forkserver

                forkserver.ensure_running()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    def verdicts(
        self, names: Sequence[str], folder: Path, seconds: int = SECONDS
    ) -> Iterator[tuple[str, Found]]:
        """(name, verdict) of checks of the modules in a folder, as they come."""
        left = list(names)
        ours, theirs = self.context.Pipe(False)
        how = theirs, str(folder), left[:], seconds
        process = self.context.Process(target=_serve, args=how, daemon=True)
        process.start()
        working.add(process.pid)
        theirs.close()
        try:
            while left and ours.poll(20 * seconds):  # its own limits come first
                name, found = ours.recv()
                left.remove(name)
                yield name, found
            process.join(None if not left else 0)
        except EOFError:
            pass
        finally:
            _kill(process.pid)  # and what is left of its children
            working.discard(process.pid)
            process.join()
        for name in left:
            yield name, ("cannot run", f"the process ended by itself ({process.exitcode})")

    def run(self, name: str, folder: Path, seconds: int = SECONDS) -> Found:
        """The verdict of one check."""
        return next(found for _, found in self.verdicts([name], folder, seconds))


def _serve(*how: Any) -> None:
    from checks.worker import serve

    serve(*how)


def _kill(pid: int | None) -> None:
    """A process and those of its session."""
    try:
        os.killpg(pid or 0, signal.SIGKILL) if pid else None
    except (ProcessLookupError, PermissionError, AttributeError):
        pass


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
    import checks.vae

    wanted = [one for one in checks.CHECKS if one.half in halves]
    numbers = sorted({one.question for one in wanted})
    wanted = [one for one in wanted if question in ("", one.question)]
    if not wanted:
        raise Unusable(f"--question: got {question}, expected one of {', '.join(numbers)}")
    yield from (row for row in lost_halves(folder, halves) if question in ("", row.question))
    pool, jobs = pool or Pool(), jobs or os.cpu_count() or 1
    lists: list[tuple[Path, list[str]]] = []
    for half in halves:
        those = [one for one in wanted if one.half == half]
        groups = list(dict.fromkeys(one.group or one.name for one in those))
        # A process for each core; few checks are not worth a second import.
        parts = max(1, jobs // len(halves)) if len(those) > 5 else 1
        for part in range(parts):
            mine = groups[part::parts]
            names = [one.name for one in those if (one.group or one.name) in mine]
            lists.append((halves[half], names)) if names else None
    told: queue.Queue = queue.Queue()
    waiting = list(lists)

    def work() -> None:
        try:
            while waiting:
                place, names = waiting.pop(0)
                for pair in pool.verdicts(names, place):
                    told.put(pair)
        finally:
            told.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(lists)))]
    for thread in threads:
        thread.start()
    of = {one.name: one for one in wanted}
    running = len(threads)
    while running:
        if (pair := told.get()) is None:
            running -= 1
        elif found := pair[1]:
            one = of[pair[0]]
            yield Row(one.question, one.what, found[0], found[1], one.name)


def in_order(rows: Sequence[Row]) -> list[Row]:
    """By question, and within one as the checks are listed."""
    from checks import CHECKS

    at = {one.name: number for number, one in enumerate(CHECKS)}
    return sorted(rows, key=lambda row: (row.question, at.get(row.name, -1)))


def check_folder(folder: Path, pool: Pool | None = None, jobs: int | None = None) -> list[Row]:
    """Every check that applies; Unusable where no hand-in is found."""
    return in_order([*rows_of(folder, pool, jobs)])


def passed(rows: Sequence[Row]) -> bool:
    """Whether nothing is wrong, missing or broken."""
    from checks import PASSED

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
    from checks import PASSED

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
    from checks import VERDICTS

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
    parser.add_argument("folder", type=some_path, nargs="?", metavar="HANDIN", help="the hand-in")
    for name, what in (
        ("json", "rows as JSON (- for the terminal)"),
        ("csv", "rows as CSV (- for the terminal)"),
        ("gradescope", "Gradescope's results.json"),
        ("autograder", "check nothing; write the archive that Gradescope takes"),
    ):
        parser.add_argument(f"--{name}", metavar="FILE", type=some_path, help=what)
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
    from checks import CHECKS

    halves, why = find_halves(folder), (CANNOT_RUN, "not tried: the checker was stopped")
    those = [one for one in CHECKS if one.half in halves and question in ("", one.question)]
    return [Row(one.question, one.what, *why, one.name) for one in those]


def write(rows: Sequence[Row], args: argparse.Namespace, left: Sequence[Row] = ()) -> None:
    """What is asked for, moved into place once it is whole; points with what is left to try."""
    kinds = (
        (args.json, lambda: json.dumps([asdict(row) for row in rows], indent=2)),
        (args.csv, lambda: as_csv(rows)),
        (args.gradescope, lambda: json.dumps(gradescope(in_order([*rows, *left])), indent=2)),
    )
    for target, make in kinds:
        if target not in (None, "-"):
            save(Path(target), partial(Path.write_text, data=f"{make()}\n"))


def as_csv(rows: Sequence[Row]) -> str:
    """With a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Row.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue().rstrip("\n")


def main(args: argparse.Namespace) -> int:
    """Check, print, write; returns the exit code."""
    rows: list[Row] = []
    left: list[Row] = []
    try:
        targets = [t for t in (args.json, args.csv, args.gradescope, args.autograder) if t]
        if len({*targets}) < len(targets):
            raise Unusable(f"{targets[0]} is given twice; give each its own file")
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
            rows.append(row)
            if "-" not in targets:
                print(line(row), flush=True)
            if args.gradescope and not left:  # the checks are imported by now
                left = not_tried(folder, args.question)
            told = {row.name for row in rows}
            write(in_order(rows), args, [row for row in left if row.name not in told])
        rows = in_order(rows)
        write(rows, args)
        if "-" in targets:
            text = json.dumps([asdict(row) for row in rows], indent=2)
            print(text if args.json == "-" else as_csv(rows))
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
        end_all()
        os._exit(128 + (error.args or (signal.SIGINT,))[0])  # whatever threads are at work
    sys.exit(code)
