"""A page setter for the Markdown of report.md: report.md -> report.pdf, with matplotlib alone.

Known: `#`, `##` (a new page) and `###` headings, paragraphs, `- ` lists, tables of words, tables of
pictures (`![caption](path)` in every cell of a row), fenced code. HTML comments are skipped.
"""

import hashlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

WIDTH, HEIGHT, MARGIN = 8.27, 11.69, 0.75  # A4, inches
TALLEST_PICTURE = 2.75  # inches
PICTURE = re.compile(r"!\[(.*?)\]\((.*?)\)")
LINK = re.compile(r"\[(.*?)\]\((.*?)\)")


def typeset(markdown: str, folder: Path | str, pdf_path: Path, figures: Any = ()) -> list[str]:
    """Write `markdown`, whose picture paths are relative to `folder`, as a PDF.

    figures: path -> PNG bytes of pictures that are not on disk yet. Returns the pages' headings.
    Raises OSError for a picture that cannot be read.
    """
    figures = {Path(os.path.normpath(path)): content for path, content in dict(figures).items()}
    # No date, so that the same text gives the same file; a digest, which tells what text that was.
    digest = hashlib.sha256(markdown.encode()).hexdigest()
    metadata = {
        "CreationDate": None,
        "Title": "Generative modelling: report",
        "Keywords": f"sha256 {digest}",
    }
    with PdfPages(pdf_path, metadata=metadata) as pdf:
        pages = Pages(pdf)
        for kind, content in blocks(markdown):
            if kind == "heading":
                pages.heading(*content)
            elif kind == "table" and len(content) > 1 and PICTURE.search(content[1][0]):
                for row in content[1:]:
                    named = [match[2] for match in map(PICTURE.search, row) if match]
                    paths = [Path(os.path.normpath(Path(folder, name))) for name in named]
                    pages.pictures(content[0], [read_picture(path, figures) for path in paths])
            elif kind == "table":
                pages.table(content)
            else:
                pages.text(content, **STYLES[kind])
        pages.finish()
    return pages.headings


STYLES: dict[str, dict] = {
    "paragraph": {"size": 9},
    "item": {"size": 9, "indent": 0.18, "bullet": "•", "after": 0.03},
    "code": {"size": 7.5, "family": "monospace", "indent": 0.1, "after": 0.0},
}


HEADING = re.compile(r"(#+) (.*)")
# How a line tells what block begins with it; "end" ends one.
STARTS = {
    "code": re.compile(r"```"),
    "heading": HEADING,
    "table": re.compile(r"\|"),
    "item": re.compile(r"- "),
    "end": re.compile(r"\s*$"),
}


def blocks(markdown: str) -> Iterator[tuple[str, Any]]:
    """(kind, content) of each block, in order."""
    lines = iter([*re.sub(r"<!--.*?-->", "", markdown, flags=re.DOTALL).splitlines(), ""])
    gathered: list = []
    kind: str | None = None
    for line in lines:
        heading = HEADING.match(line)
        starts = next((name for name, mark in STARTS.items() if mark.match(line)), None)
        if kind and gathered and (starts is not None and (starts != kind or starts == "item")):
            yield kind, (gathered if kind == "table" else plain(" ".join(gathered)))
            gathered, kind = [], None
        if starts == "code":
            for code in iter(lambda: next(lines), "```"):
                yield "code", code
            yield "code", ""
        elif starts == "heading":
            yield "heading", (plain(heading[2]), len(heading[1]))  # type: ignore[index]
        elif starts == "table":
            kind = "table"
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                gathered.append(
                    cells if any(map(PICTURE.search, cells)) else [plain(cell) for cell in cells]
                )
        elif starts != "end":
            kind = kind or starts or "paragraph"
            gathered.append(line.removeprefix("- ").strip())


def plain(text: str) -> str:
    """Without the marks that a PDF has no use for; a link keeps its address."""
    text = LINK.sub(
        lambda match: match[1] if match[1] == match[2] else f"{match[1]} ({match[2]})", text
    )
    return re.sub(r"(\*\*|\*)(\S.*?)\1", r"\2", text).replace("`", "")


class Pages:
    """A cursor that goes down A4 pages; lengths are inches."""

    def __init__(self, pdf: PdfPages):
        self.pdf, self.number = pdf, 0
        self.figure: Any = None  # of the page under way
        self.headings: list[str] = []

    def new_page(self) -> None:
        """An empty page with a number."""
        self.finish()
        self.figure = plt.figure(figsize=(WIDTH, HEIGHT))
        self.y, self.number = HEIGHT - MARGIN, self.number + 1
        self.figure.text(0.5, 0.4 / HEIGHT, str(self.number), size=8, ha="center")

    def finish(self) -> None:
        """The last page is done."""
        if self.figure is not None:
            self.pdf.savefig(self.figure, dpi=200)
            plt.close(self.figure)
        self.figure = None

    def make_room(self, height: float) -> None:
        """Go on to a new page unless `height` inches are left."""
        if self.figure is None or self.y - height < MARGIN:
            self.new_page()

    def heading(self, text: str, level: int) -> None:
        """Levels 1 and 2 begin a page."""
        if level <= 2:
            self.new_page()
            self.headings.append(text)
        size = {1: 17, 2: 14}.get(level, 10.5)
        self.y -= 0.08 if level > 2 else 0
        self.text(text, size, weight="bold", after=0.1 if level <= 2 else 0.04, keep=0.8)

    def text(
        self,
        text: str,
        size: float,
        indent: float = 0.0,
        bullet: str = "",
        after: float = 0.09,
        keep: float = 0.0,
        **font: Any,
    ) -> None:
        """A paragraph, broken into lines that fit; `keep` inches must follow on the same page."""
        line_height = size * 1.32 / 72
        for number, line in enumerate(wrap(text, WIDTH - 2 * MARGIN - indent, size, **font)):
            self.make_room(line_height + keep)
            self.y -= line_height
            if bullet and number == 0:
                self._put(bullet, MARGIN + indent - 0.13, size)
            self._put(line, MARGIN + indent, size, **font)
        self.y -= after

    def _put(self, text: str, x: float, size: float, y: float | None = None, **font: Any) -> None:
        y = self.y if y is None else y
        self.figure.text(x / WIDTH, y / HEIGHT, text.replace("$", r"\$"), size=size, **font)

    def table(self, rows: list[list[str]], size: float = 7.2, gap: float = 0.12) -> None:
        """Rows of cells, the first in bold; the widest column gives way, its cells are broken."""
        rows = [(row + [""] * len(rows[0]))[: len(rows[0])] for row in rows]
        widths = [
            max(
                text_width(row[column], size, "bold" if row is rows[0] else "normal")
                for row in rows
            )
            for column in range(len(rows[0]))
        ]
        room = WIDTH - 2 * MARGIN - gap * (len(widths) - 1)
        while sum(widths) > room + 1e-6:
            widest = widths.index(max(widths))
            second = max([width for width in widths if width < widths[widest]], default=0)
            share = widths.count(widths[widest])
            smaller = max(second, widths[widest] - (sum(widths) - room) / share)
            widths = [smaller if width == widths[widest] else width for width in widths]
        line_height = size * 1.32 / 72
        for row in rows:
            weight = "bold" if row is rows[0] else "normal"
            cells = [
                wrap(cell, width + 0.02, size, weight=weight)
                for cell, width in zip(row, widths, strict=True)
            ]
            self.make_room(line_height * max(map(len, cells)))
            x = MARGIN
            for lines, width in zip(cells, widths, strict=True):
                for number, line in enumerate(lines, start=1):
                    self._put(line, x, size, self.y - number * line_height, weight=weight)
                x += width + gap
            self.y -= line_height * max(map(len, cells)) + 0.02
        self.y -= 0.1

    def pictures(self, captions: list[str], images: list, gap: float = 0.15) -> None:
        """One row of pictures (arrays) of one height, as large as the page's width allows."""
        ratios = [image.shape[1] / image.shape[0] for image in images]
        room = WIDTH - 2 * MARGIN - gap * (len(images) - 1)
        height = min(TALLEST_PICTURE, room / sum(ratios))
        widths = [height * ratio for ratio in ratios]
        headers = [
            wrap(plain(caption), width, 7.5)
            for caption, width in zip(captions, widths, strict=True)
        ]
        self.make_room(height + 0.13 * max(map(len, headers)) + 0.2)
        x = MARGIN + (room - sum(widths)) / 2
        bottom = self.y - 0.05 - 0.13 * max(map(len, headers)) - height
        for image, width, lines in zip(images, widths, headers, strict=True):
            for number, line in enumerate(lines, start=1):
                self._put(line, x + width / 2, 7.5, self.y - 0.13 * number, ha="center")
            axes = self.figure.add_axes(
                (x / WIDTH, bottom / HEIGHT, width / WIDTH, height / HEIGHT)
            )
            axes.imshow(image, interpolation="none")
            axes.set_axis_off()
            x += width + gap
        self.y = bottom - 0.12


def read_picture(path: Path, figures: Any) -> Any:
    """Pixels of a picture of `figures` or on disk."""
    try:
        return plt.imread(io.BytesIO(figures[path]) if path in figures else path)
    except (OSError, SyntaxError, ValueError) as error:
        raise OSError(f"{path}: cannot be read as a picture ({error}); restore it") from None


def text_width(text: str, size: float, weight: str = "normal", family: str = "sans-serif") -> float:
    """Inches."""
    font = FontProperties(size=size, weight=weight, family=family)
    return (
        text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72
        if text
        else 0.0
    )


def wrap(text: str, width: float, size: float, **font: Any) -> list[str]:
    """Lines of `text` that are at most `width` inches wide; a longer word has a line of its own."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and text_width(longer, size, **font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
