"""Is this hand-in right? Tries its functions on tiny tensors; no GPU, no data, half a minute.

    python report/check.py HANDIN             a folder with gan/ and vae/, either one, or flat code
    python report/check.py HANDIN --json results --csv rows.csv --gradescope results.json

It runs the code that it is given, in processes of its own with limits of time and memory, on a
copy, without a network and without a GPU. That keeps accidents small; it is no protection from
malice. For strangers' code use a container without a network and with nothing of value in it:

    docker run --rm --network none -v "$PWD":/work:ro -w /work IMAGE python report/check.py HANDIN

A row a check: right; differs (a legitimate variant, named); wrong (what was seen, what was
expected, what it costs, how to mend it); not there (a TODO); cannot run (and why; where an old
library is the reason, whether it is right with that apart). Exit codes: 0 all right, 1 something
is not, 2 nothing could be checked.
"""

import argparse
import concurrent.futures
import csv
import io
import json
import multiprocessing
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from run_folder import OneLineParser, save

SECONDS = 60  # that a check may take
SKIPPED = {"__pycache__", "datasets", "data", "node_modules", "site-packages", "venv", "wandb"}
# What a half is known by: the file that its modules lie beside, and a word in it.
SIGNS = {
    "gan": (("networks.py", "class Discriminator"),),
    "vae": (("model.py", "class AEModel"), ("model.py", "class VAEEncoder")),
    "diffusion": (("model.py", "class DiffusionModel"),),
}
# A process begins with these: this folder to import from, no compiled classes (they hide what they
# do), one thread, no GPU.
ENVIRONMENT = {
    "PYTHONPATH": str(Path(__file__).resolve().parent),
    "PYTORCH_JIT": "0",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "MPLBACKEND": "Agg",
    "TQDM_DISABLE": "1",
    "WANDB_MODE": "disabled",
}


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
    """The folders of gan, vae and diffusion below `folder`, the shallowest of each."""
    found: dict[str, Path] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in SKIPPED)
        for half, signs in SIGNS.items():
            for name, word in signs:
                if name in names and word in _text(Path(place, name)):
                    path = Path(place)
                    depth = len(path.relative_to(folder).parts)
                    best = found.get(half)
                    if best is None or depth < len(best.relative_to(folder).parts):
                        found[half] = path
    return found


def _text(path: Path) -> str:
    """Of a file; none where it cannot be read: a link to nowhere, for one."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


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

    def run(self, name: str, folder: Path, seconds: int = SECONDS) -> tuple[str, str] | None:
        """The verdict of one check, (word, sentence); None where it does not apply."""
        from checks import CANNOT_RUN

        with tempfile.TemporaryDirectory() as place:
            result = Path(place, "verdict.json")
            process = self.context.Process(
                target=_run_check, args=(name, str(folder), str(result), seconds), daemon=True
            )
            process.start()
            process.join(seconds)
            if process.is_alive():
                _kill(process.pid)
                process.join()
                return CANNOT_RUN, f"not done after {seconds} s"
            _kill(process.pid)  # whatever it may have started
            if not result.is_file():
                code = process.exitcode
                if code in (-signal.SIGXCPU, -signal.SIGKILL):
                    return CANNOT_RUN, f"ended by the limit of {seconds} s or of memory"
                return CANNOT_RUN, f"the process ended by itself (exit code {code})"
            found = json.loads(result.read_text())
        return None if found is None else (found[0], found[1])


def _run_check(name: str, folder: str, result: str, seconds: int) -> None:
    from checks.worker import run_check

    run_check(name, folder, result, seconds)


def _kill(pid: int | None) -> None:
    """A process and its children, which share its session."""
    try:
        os.killpg(pid or 0, signal.SIGKILL) if pid else None
    except (ProcessLookupError, PermissionError, AttributeError):
        pass


def check_folder(folder: Path, pool: Pool | None = None, jobs: int | None = None) -> list[Row]:
    """Every check that applies; Unusable where no hand-in is found."""
    import checks.diffusion
    import checks.gan
    import checks.vae

    if not folder.is_dir():
        raise Unusable(f"{folder} is not a folder; give the one that holds gan/ and vae/")
    halves = find_halves(folder)
    if not halves:
        raise Unusable(
            f"no hand-in in {folder}; expected networks.py with a Discriminator, or model.py with "
            "an AEModel or a DiffusionModel, at any depth"
        )
    pool = pool or Pool()
    wanted = [one for one in checks.CHECKS if one.half in halves]
    with concurrent.futures.ThreadPoolExecutor(jobs or os.cpu_count() or 1) as threads:
        verdicts = threads.map(lambda one: pool.run(one.name, halves[one.half]), wanted)
        pairs = list(zip(wanted, verdicts, strict=True))
    rows = [Row(one.question, one.what, *found, one.name) for one, found in pairs if found]
    return sorted(rows, key=lambda row: row.question)


def passed(rows: Sequence[Row]) -> bool:
    """Whether nothing is wrong, missing or broken."""
    from checks import PASSED

    return all(row.verdict in PASSED for row in rows)


def gradescope(rows: Sequence[Row]) -> dict:
    """The results.json that Gradescope reads: a point for each check that passes."""
    from checks import PASSED

    tests = [
        {
            "number": f"{row.question}.{number}",
            "name": row.what,
            "score": float(row.verdict in PASSED),
            "max_score": 1.0,
            "status": "passed" if row.verdict in PASSED else "failed",
            "output": f"{row.verdict}. {row.sentence}".strip(),
        }
        for number, row in enumerate(rows, start=1)
    ]
    return {"tests": tests, "output": summary(rows)}


def summary(rows: Sequence[Row]) -> str:
    """How many of each verdict."""
    from checks import VERDICTS

    counts = Counter(row.verdict for row in rows)
    shown = ", ".join(f"{counts[word]} {word}" for word in VERDICTS if counts[word])
    return f"{len(rows)} checks: {shown}"


def table(rows: Sequence[Row]) -> str:
    """For a terminal: what is right in one line each, what is not with its sentence."""
    lines = []
    for row in rows:
        lines.append(f"{row.question}  {row.verdict:<10}  {row.what}")
        if row.sentence:
            lines.append(f"     {'':<10}  {row.sentence}")
    return "\n".join([*lines, "", summary(rows)])


def get_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("folder", type=Path, metavar="HANDIN", help="the hand-in")
    for name, what in (
        ("json", "rows as JSON (- for the terminal)"),
        ("csv", "rows as CSV (- for the terminal)"),
        ("gradescope", "Gradescope's results.json"),
    ):
        parser.add_argument(f"--{name}", metavar="FILE", help=what)
    parser.add_argument("--jobs", type=int, metavar="N", help="processes at a time (all cores)")
    args = parser.parse_args(argv)
    if args.jobs is not None and args.jobs < 1:
        parser.error(f"--jobs: got {args.jobs}, expected a whole number >= 1")
    return args


def write(text: str, target: str) -> None:
    """To a file, moved into place once it is whole, or to the terminal."""
    if target == "-":
        print(text)
        return
    save(Path(target), lambda path: path.write_text(text + "\n"))


def as_csv(rows: Sequence[Row]) -> str:
    """With a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Row.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue().rstrip("\n")


def main(args: argparse.Namespace) -> int:
    """Check, print, write; returns the exit code."""
    try:
        for target in filter(None, (args.json, args.csv, args.gradescope)):  # before the work
            if target != "-" and not Path(target).absolute().parent.is_dir():
                raise Unusable(f"cannot write {target}: no folder {Path(target).parent}; make it")
            if Path(target).is_dir():
                raise Unusable(f"cannot write {target}: it is a folder, expected a file")
        rows = check_folder(args.folder.resolve(), jobs=args.jobs)
        if "-" not in (args.json, args.csv, args.gradescope):
            print(table(rows))
        if args.json:
            write(json.dumps([asdict(row) for row in rows], indent=2), args.json)
        if args.csv:
            write(as_csv(rows), args.csv)
        if args.gradescope:
            write(json.dumps(gradescope(rows), indent=2), args.gradescope)
    except (Unusable, OSError) as error:
        print(f"check.py: error: {error}", file=sys.stderr)
        return 2
    return 0 if passed(rows) else 1


if __name__ == "__main__":
    sys.exit(main(get_args()))
