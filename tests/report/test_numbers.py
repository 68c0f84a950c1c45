"""Every number in the words of report.md and README.md is in a run, or in a benchmark's output.

Numbers between the marks are made by parts.py, and have a test of their own.
"""

import csv
import json
import re

import pytest
from parts import PUBLISHED
from questions import QUESTIONS
from run_folder import RUNS, find_runs, read_run

REPORT = RUNS.parent
NUMBER = r"(?<![\w.,/-])\d+(?:,\d{3})*(?:\.\d+)?(?![\w/-]|[.,]\d)"
# What is no measurement: an option's or network's size, a formula, a fact of the data, another's.
FACTS = {
    *("1024", "2,048", "3072", "-1758.3", "1758.3", "10,147", "128", "256", "0.05", "0.5", "0.005"),
    *("30,000", "50,000", "10,000", "11,780", "2,000", "1,000", "100", "145", "130", "155", "125"),
    *("1/64", "11.3", "1.4", "200", "150", "500", "0.33", "1.38", "0.45", "0.01", "0.99", "192"),
    *("202.8", "204.7", "56.0", "56.7", "25.7", "29.8", "130.67", "243.11", "78.69", "90.74"),
    *("50.84", "46.78", "148.30", "0.95", "2022", "16,384", "1,024", "4,096", "5,898", "2,949"),
}
# A difference, a mean: how it comes from what is there.
DERIVED = {
    "1.08": "standard error of a difference",
    "1.06": "137.45 - 136.40, 126.68 - 125.62",
    "1.50": "149.80 - 148.30",
    "2.15": "122.38 - 120.23",
    "2.4": "151.21 - 148.81",
    "1,337": "0.2267 x 5,898",
    "901": "steps of a thousand from 1,000 to 100, and one more",
    "2009": "a year",
}


def words(path):
    """The text without tables, parts, code, links and headings."""
    text = path.read_text()
    text = re.sub(r"<!-- ([^/\n]*?) -->\n.*?<!-- /\1 -->", "", text, flags=re.DOTALL)
    text = text.partition("\n## Sources")[0]
    text = re.sub(
        r"```.*?```|`[^`]*`|https?://\S+|arXiv \S+|\(equation \d+\)", "", text, flags=re.DOTALL
    )
    return re.sub(r"^(#|\|).*$", "", text, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def known():
    """All numbers of the runs, sums and scores; and those of the benchmarks."""
    found = set()
    for folder in find_runs([RUNS]):
        run = read_run(folder)
        for row in run.rows:
            found |= {abs(v) for v in row.values() if isinstance(v, int | float)}
            if "val_kl_loss" in row:
                found.add(row["val_recon_loss"] + row["val_kl_loss"])
            if "real_score" in row and "fake_score" in row:
                found.add(row["real_score"] - row["fake_score"])
        found |= {float(v) for v in run.config.values() if isinstance(v, int | float)}
        for path in folder.glob("*_score*.json"):
            found |= {
                v for v in json.loads(path.read_text()).values() if isinstance(v, int | float)
            }
        for path in folder.glob("samplers.csv"):
            cells = [cell for row in csv.reader(path.open()) for cell in row]
            found |= {float(cell) for cell in cells if re.fullmatch(r"-?\d+(\.\d+)?", cell)}
    told = (REPORT / "benchmarks.txt").read_text() + str(PUBLISHED) + str(QUESTIONS)
    for path in (REPORT / "report.md", REPORT.parent / "README.md"):  # means of seeds, say
        told += "".join(re.findall(r"^\|.*$", path.read_text(), flags=re.MULTILINE))
    return found | {float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?:\.\d+)?", told)}


def is_known(token, known):
    value, places = float(token.replace(",", "")), len(token.partition(".")[2])
    return any(abs(value - v) <= 0.5 * 10**-places + 1e-9 for v in known)


@pytest.mark.parametrize("path", [REPORT / "report.md", REPORT.parent / "README.md"])
def test_each_number_has_a_source(path, known):
    lost = [
        token
        for token in re.findall(NUMBER, words(path))
        if len(re.sub(r"\D", "", token).lstrip("0")) > 2
        and token not in FACTS | DERIVED.keys()
        and not is_known(token, known)
    ]
    assert not lost


def test_what_is_said_of_an_epoch_or_iteration_stands_in_its_row():
    """N at epoch E: some run has N there."""
    rows = {}
    for folder in find_runs([RUNS]):
        for row in read_run(folder).rows:
            step = row.get("iteration", row.get("epoch"))
            there = rows.setdefault(step, set())
            there |= {v for v in row.values() if isinstance(v, int | float)}
            there.add(row.get("real_score", 0.0) - row.get("fake_score", 0.0))
    pattern = rf"(?<! of )({NUMBER}) at (?:epoch |iteration )?({NUMBER})"  # 12 of 100 at 9,000
    found = re.findall(pattern, " ".join(words(REPORT / "report.md").split()))
    assert len(found) > 15
    lost = [
        (number, step)
        for number, step in found
        if int(float(step.replace(",", ""))) in rows
        and not is_known(number, rows[int(float(step.replace(",", "")))])
    ]
    assert not lost
