"""A class: whose runs and code are whose, copies in disguise, rows for a spreadsheet."""

import contextlib
import csv
import io
import statistics
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from check import SKIPPED, Pool, Unusable, find_halves, in_order, rows_of
from checks import CANNOT_RUN, NOT_THERE, PASSED, RIGHT, WRONG
from questions import QUESTIONS, Grade
from run_folder import RUNS, Run, is_run, save

HERE = Path(__file__).resolve().parent
COLUMNS = ("student", "question", "title", "run", "metric", "measured", "verdict", "remarks")
CODE = "code"  # the title of the rows of check.py
HALVES = ("gan", "vae", "diffusion")
ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")
LARGEST, MOST = 50 * 2**20, 20_000  # bytes and files that are unpacked of a zip


def hand_ins(roots: Sequence[str]) -> list[Path]:
    """The students' folders: those of a class, or the roots themselves; links are followed."""
    found: list[Path] = []
    for root in (Path(root).absolute() for root in roots):
        if root == RUNS:
            found.append(HERE.parent)
        elif root.name in HALVES:
            found.append(root.parent)
        elif is_hand_in(root):
            found.append(root)
        else:
            below = [p for p in sorted(root.iterdir()) if p.is_dir() and p.name[0] != "."]
            found += [path for path in below if path.name not in SKIPPED]
    return list(dict.fromkeys(found))


def is_hand_in(root: Path) -> bool:
    """Whether a folder is one student's, not a class."""
    halves = [root / half for half in HALVES if (root / half).is_dir()]
    own = [next(half.iterdir(), None) for half in halves]  # an empty one says nothing
    return any(own) or is_run(root) or root in find_halves(root).values()


def student_of(path: Path, students: Iterable[Path]) -> Path:
    """The student whose folder `path` (a run, say) lies in."""
    path = path.absolute()
    # The deepest: a class may lie below another's folder.
    whose = [student for student in students if path.is_relative_to(student)]
    return max(whose, key=lambda student: len(student.parts), default=path.parent)


def names_of(folders: Iterable[Path]) -> dict[Path, str]:
    """What students are called: as their folder, with as many above it as tell them apart."""
    folders = list(dict.fromkeys(folders))
    names = {folder: folder.name for folder in folders}
    for depth in range(2, 12):
        often = Counter(names.values())
        for folder in folders:
            if often[names[folder]] > 1:
                names[folder] = "/".join(folder.parts[-depth:])
    return names


def unpacked(roots: Sequence[str], place: Path) -> tuple[list[str], list[tuple[Path, str]]]:
    """Folders of the archives that a class has instead; and what is damaged, links too."""
    folders: list[str] = []
    places = [Path(root) for root in roots if Path(root).is_dir()]
    links = [p for place in places for p in sorted(place.iterdir()) if p.is_symlink()]
    broken = [(p.absolute(), f"{p.name} is a link to nothing") for p in links if not p.exists()]
    found = [(path, end) for place in places for end in ARCHIVES for path in place.glob(f"*{end}")]
    for path, end in sorted(found):
        name = path.name.removesuffix(end)
        if (path.parent / name).is_dir():  # unpacked beside it already
            continue
        target = place / str(len(folders)) / name
        target.mkdir(parents=True)
        folders.append(str(target))
        try:  # no path leads out of the target
            if end == ".zip":
                with zipfile.ZipFile(path) as archive:
                    few = [info for info in archive.infolist() if info.file_size <= LARGEST]
                    archive.extractall(target, few[:MOST])
            else:
                with tarfile.open(path, errorlevel=0) as tar:
                    small = [member for member in tar if member.size <= LARGEST]
                    tar.extractall(target, small[:MOST], filter="data")
        except Exception as error:  # a damaged one raises many kinds
            broken.append((target, f"{path.name} cannot be unpacked ({error})"))
    return folders, broken


def copies(runs: Sequence[Run]) -> dict[Path, list[Run]]:
    """{folder: the other runs whose numbers are the same}, however they are written.

    Time may differ: the seconds of a copy are easily edited.
    """
    said: dict[tuple, list[Run]] = {}
    for run in runs:
        rows = [sorted((k, str(v)) for k, v in row.items() if k != "seconds") for row in run.rows]
        if rows:  # a header alone is everybody's
            said.setdefault((run.kind, str(rows)), []).append(run)
    return {
        run.folder: [other for other in those if other is not run]
        for those in said.values()
        for run in those
    }


def check_code(folder: Path, pool: Pool) -> list[dict]:
    """The rows of check.py for a hand-in; none where there is no code."""
    try:
        return [vars(row) for row in in_order([*rows_of(folder, pool)])]  # they come as done
    except (Unusable, OSError) as error:
        if isinstance(error, Unusable) and "notebooks" not in str(error):
            return []
        row = {"question": "all", "what": f"check.py ({error})", "sentence": ""}
        return [row | {"verdict": CANNOT_RUN}]


def by_question(checked: Sequence[dict]) -> Iterator[tuple[str, str, str, list[str]]]:
    """(question, how many checks pass, the worst verdict, what fails) of rows of check.py."""
    for question in dict.fromkeys(row["question"] for row in checked):
        those = [row for row in checked if row["question"] == question]
        bad = [row for row in those if row["verdict"] not in PASSED]
        words = {row["verdict"] for row in bad}
        verdict = next((word for word in (WRONG, NOT_THERE, CANNOT_RUN) if word in words), RIGHT)
        passed = f"{len(those) - len(bad)} of {len(those)} right"
        said = [f"{row['what']}: {row['verdict']}. {row['sentence']}".strip(" .") for row in bad]
        yield question, passed, verdict, said


def rows_of_student(
    student: tuple[Path, str],
    grades: Sequence[Grade],
    broken: Sequence[tuple[Path, str]],
    checked: Sequence[dict],
    copied: dict[Path, set[str]],
) -> list[dict]:
    """A row for each grade, for each question of the code, for each damaged run.

    broken: their folders, and why. copied: {run folder: who else has its numbers}.
    """
    folder, name = student
    rows: list[dict] = []
    if not checked or broken or any(grade.run for grade in grades):  # code alone has no runs
        for grade in grades:
            others = copied.get(grade.run.folder, set()) - {name} if grade.run else set()
            more = [f"the same numbers as {', '.join(sorted(others))}"] * bool(others)
            row = grade.cells() | {"remarks": "; ".join([*grade.remarks, *more])}
            number = row.get("measured")
            rows.append(row | {"measured": "" if number is None else f"{number:.4f}"})
    rows += [{"run": str(p), "verdict": "damaged", "remarks": why} for p, why in broken]
    judged = ", ".join(str(path) for path in find_halves(folder).values())
    for question, passed, verdict, bad in by_question(checked):
        row = {"question": question, "title": CODE, "run": judged, "metric": "checks"}
        rows.append(row | {"measured": passed, "verdict": verdict, "remarks": "; ".join(bad)})
    return [{"student": name} | row for row in rows]


def as_csv(rows: Sequence[dict]) -> str:
    """With a header; a cell that a spreadsheet would compute begins with an apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, "", "ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = {
            k: f"'{v}" if str(v)[:1] in ("=", "+", "-", "@", "\t") else v for k, v in row.items()
        }
        writer.writerow(cells)
    return text.getvalue().rstrip("\n")


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    """As Excel reads it; a name that is no Unicode is written with its bytes as \\xNN."""
    text = as_csv(rows).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    save(path, lambda unfinished: unfinished.write_text(f"{text}\n", encoding="utf-8-sig"))


def read_csv(path: Path) -> dict[str, list[dict]]:
    """{student: rows} of what an earlier call has written: each is complete."""
    found: dict[str, list[dict]] = {}
    with (
        contextlib.suppress(FileNotFoundError),
        open(path, newline="", encoding="utf-8-sig") as file,
    ):
        for row in csv.DictReader(file):
            found.setdefault(row["student"], []).append(row)
    return found


def summary(rows: Sequence[dict]) -> str:
    """How many students met what, and between what their numbers lie that compare."""
    students = {row["student"] for row in rows}
    lines = [f"{len(students)} students"]
    for question in QUESTIONS:
        title = f"{question.number} {question.title}"
        # A student with several runs counts once, by the best of them.
        order = ("met", "not met", "no reference", "not comparable", "not run")
        best: dict[str, int] = {}
        numbers = []
        for row in (row for row in rows if row.get("title") == question.title):
            # "no reference (within ...)" begins with its word.
            rank = next(n for n, word in enumerate(order) if row["verdict"].startswith(word))
            best[row["student"]] = min(rank, best.get(row["student"], rank))
            numbers += [float(row["measured"])] if rank < 3 else []  # of those that compare
        counts = Counter(best.values())
        words = [f"{counts[rank]} {word}" for rank, word in enumerate(order) if counts[rank]]
        shown = ", ".join(words)
        if numbers:
            low, middle, high = min(numbers), statistics.median(numbers), max(numbers)
            shown += f"; {low:.2f} to {high:.2f}, median {middle:.2f}"
        lines.append(f"{title:<24}  {shown}")
    code: dict[str, set[str]] = {}
    for row in rows:
        if row.get("title") == CODE:
            code.setdefault(row["student"], set()).add(row["verdict"])
    if code:
        fine = sum(verdicts == {"right"} for verdicts in code.values())
        wrong = sum("wrong" in verdicts for verdicts in code.values())
        lines.append(f"{CODE:<24}  {len(code)} checked, {fine} all right, {wrong} with a slip")
    damaged = sum(row["verdict"] == "damaged" for row in rows)
    return "\n".join([*lines, *([f"{damaged} damaged runs"] if damaged else [])])
