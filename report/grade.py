"""Where every question of the assignment stands: what was measured, beside the reference numbers.

    python report/grade.py                                  the runs in report/runs
    python report/grade.py gan vae                          your own
    python report/grade.py CLASS --csv -                    a line for each student and question
    python report/grade.py CLASS --csv class.csv --check --rescore    and code tried, weights too

A number is only called met or not met where it compares with the reference: the same data,
features, sample count, hyper-parameters and length of training. Every run that compares has a row.
A student is a folder or an archive (zip, tar) of CLASS (or what stands above gan/ and vae/). A list
is written after each student; --resume goes on with it. Exit codes: 0; 1 where a comparable number
misses its reference or code is wrong, with --strict also where none compares; 2 where something
cannot be read. --check runs the code that it is given: see check.py --help.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import classroom
from check import Pool, stop
from questions import NEIGHBOURS, QUESTIONS, Grade, asks_for, describe, grade_all
from recheck import OFF, NotMeasured, Places, measure_again
from run_folder import RUNS, OneLineParser, Run, RunError, find_runs, read_runs

HEADER = ["question", "run", "measured", "done", "data, images", "handout", "reports", "verdict"]
PLACES = {
    "birds": "folder of the 32x32 birds",
    "cifar10": "folder of CIFAR-10",
    "fid": "TorchScript file of features that are not Inception's: a program, which is run",
    "inception_weights": "folder that holds inception-2015-12-05.pt",
}
FLAGS = {
    "json": "the rows as JSON",
    "resume": "go on with the --csv that an earlier call has begun",
    "overwrite": "replace the list at --csv",
    "strict": "exit code 1 also where no number compares",
    "check": "try the code of a class, too, with check.py (it is run)",
    "rescore": "measure again from generator.pt and model.pt, where they and the data are there",
}


def as_table(grades: list[Grade]) -> str:
    """A line a grade, and below it what keeps the number from comparing."""
    rows = [HEADER, *map(describe, grades)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row, remarks in zip(rows, [[], *(grade.remarks for grade in grades)], strict=True):
        lines.append("  ".join(map(str.ljust, row, widths)).rstrip())
        lines += [f"    {remark}" for remark in remarks]
    return "\n".join(lines)


def rescore(grades: Sequence[Grade], places: Places) -> None:
    """Measure the numbers again from the runs' weights; one that is off does not compare."""
    for grade in (one for one in grades if one.run):
        try:
            off, grade.note = measure_again(grade.run, grade.row, places)
            grade.reasons += [grade.note] * (off > OFF)  # the log says something else
        except NotMeasured as error:
            grade.note = str(error)


def get_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = OneLineParser(__doc__)
    what = "run folders, or folders of them (report/runs)"
    parser.path("folders", "RUN_DIR", what, nargs="*")
    parser.path("--csv", "FILE", "a class: a line a student and question (- for the terminal)")
    for name, what in FLAGS.items():
        parser.add_argument(f"--{name}", action="store_true", help=what)
    for name, what in PLACES.items():
        parser.add_argument(f"--{name}", metavar="PATH", help=f"for --rescore: {what}")
    args = parser.parse_args(argv)
    named, file, listed = args.folders, Path(args.csv or "-"), args.csv not in (None, "-")
    args.folders = [path for path in named if not Path(path).is_file()]  # of vae/data/*, say
    there = file.exists()
    usable = os.access(file if there else file.absolute().parent, os.W_OK | os.R_OK)
    ours = usable and file.is_file() and b"student,question," in file.read_bytes()[:30]
    new = f"--csv: {file} exists; give --resume, --overwrite or another file"
    places = {name: getattr(args, name) for name in PLACES if getattr(args, name)}
    for wrong, message in (
        (named and not args.folders, f"{' '.join(named)} is a file, expected a folder of runs"),
        (args.json and args.csv, "--json and --csv exclude each other"),
        (args.check and not args.csv, "--check goes with --csv; else: check.py HANDIN --json FILE"),
        (args.resume and not listed, "--resume goes with --csv FILE"),
        (
            listed and not file.absolute().parent.is_dir(),
            f"--csv: no folder {file.parent}; make it",
        ),
        (listed and file.is_dir(), f"--csv: {file} is a folder, expected a file"),
        (listed and not usable, f"--csv: {file} cannot be written; give another file"),
        (listed and there and not ours, f"--csv: {file} is no list of this program; give another"),
        (listed and ours and not (args.resume or args.overwrite), new),
        *((not args.rescore, f"--{name} goes with --rescore") for name in places),
        *((not Path(p).exists(), f"--{name}: {p} does not exist") for name, p in places.items()),
    ):
        if wrong:
            parser.error(message)
    return args


def folders_of(given: Sequence[str], runs_needed: bool) -> list[Path]:
    """The run folders; where there is none is told."""
    folders: list[Path] = []
    try:
        folders = find_runs(given)
    except RunError:
        if runs_needed or not all(map(os.path.isdir, given)):
            raise
    for path in given:
        if not any(folder.is_relative_to(path) for folder in folders):
            print(f"grade.py: no run in {path}", file=sys.stderr)
    return folders


def class_rows(
    args: argparse.Namespace, runs: list[Run], broken: list, zips: list[str], places: Places | None
) -> Iterator[list[dict]]:
    """The rows of each student, those that --resume finds in the list as they are."""
    links = [path for path, _ in broken if path.is_symlink()]  # to nothing
    # Zips were unpacked to a place of their own; links lead where they lead.
    students = [*classroom.hand_ins(args.folders or [str(RUNS)]), *map(Path, zips), *links]
    folders = [run.folder for run in runs] + [folder for folder, _ in broken]
    whose = {folder: classroom.student_of(folder, students) for folder in folders}
    names = classroom.names_of(sorted({*students, *whose.values()}))
    same = classroom.copies(runs)
    copied = {run: {names[whose[r.folder]] for r in others} for run, others in same.items()}
    done = classroom.read_csv(Path(args.csv)) if args.resume else {}
    pool = Pool() if args.check else None
    for student, name in sorted(names.items(), key=lambda pair: pair[1]):
        if name in done:  # a student is in the list with all rows or none
            yield done[name]
            continue
        grades = grade_all([run for run in runs if whose[run.folder] == student])
        if places:
            rescore(grades, places)
        told = [(path, why) for path, why in broken if whose[path] == student]
        code = classroom.check_code(student, pool) if pool else []
        yield classroom.rows_of_student((student, name), grades, told, code, copied)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = get_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a name that is no Unicode is shown with its bytes
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with tempfile.TemporaryDirectory() as cache:
        roots = args.folders or [str(RUNS)]
        zips, damaged = classroom.unpacked(roots, Path(cache, "zips")) if args.csv else ([], [])
        try:
            runs, broken = read_runs(folders_of([*roots, *zips], not (args.check or zips)))
        except RunError as error:
            print(f"grade.py: error: {error}", file=sys.stderr)
            return 2
        broken += damaged
        named = [getattr(args, name) for name in PLACES]
        places = Places(Path(cache), *named) if args.rescore else None
        rows: list[dict] = []
        if args.csv:
            for more in class_rows(args, runs, broken, zips, places):
                rows += more
                if args.csv != "-":  # after each student: a kill costs one of them
                    classroom.write_csv(Path(args.csv), rows)
            print(classroom.as_csv(rows) if args.csv == "-" else classroom.summary(rows))
        else:
            grades = grade_all(runs)
            if places:
                rescore(grades, places)
            rows = [grade.cells() for grade in grades]
            print(json.dumps(rows, indent=2) if args.json else as_table(grades))
    asked = QUESTIONS + NEIGHBOURS
    others = [run.name for run in runs if not any(asks_for(question, run) for question in asked)]
    if others:
        print(f"read, but no question asks for them: {', '.join(others)}", file=sys.stderr)
    if broken:
        return 2
    verdicts = {row["verdict"] for row in rows}  # of numbers, and of code: other words
    compared = verdicts & {"met", "not met"}  # none in a class of short runs
    return int(bool(verdicts & {"not met", "wrong"}) or (args.strict and not compared))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    try:
        code = main()
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        print("grade.py: stopped; what was written is whole", file=sys.stderr)
        code = 128 + (error.args or (signal.SIGINT,))[0]
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
