"""A page setter for report.md: Markdown -> PDF.

markdown turns words into HTML, fpdf2 sets that with matplotlib's own fonts; what is laid out here
are headings, tables of numbers, and rows of pictures (tables with `![caption](path)` in every cell
of a row). `##` headings begin a page, below a few lines only those of a question. HTML comments are
skipped.
"""

import hashlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib
from fpdf import FPDF, FontFace, FPDFException, TextStyle
from fpdf.enums import TableBordersLayout
from markdown import markdown as as_html
from PIL import Image

MARGIN, GAP = 17.0, 4.0  # millimetres, as all lengths here
TALLEST = 86.0  # a picture
PICTURE = r"!\[(.*?)\]\((<[^>]*>|[^)]*)\)"
NUMBER = re.compile(r"(\w+ )?[<>=~ ]*-?[\d,.]+(-[\d,.]+| ± [\d,.]+)?( ?%| iterations| epochs)?|-|")
FONTS = {  # and their styles: plain, bold, italic, both
    "Serif": ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    "Sans": ("DejaVuSans", "DejaVuSans-Bold"),
    "Mono": [f"DejaVuSansMono{end}" for end in ("", "-Bold", "-Oblique", "-BoldOblique")],
}
FONTS_OF_TAGS: dict[str, Any] = {
    "p": TextStyle(t_margin=0, b_margin=0),
    "li": TextStyle(l_margin=4, t_margin=0, b_margin=0),
    "code": FontFace(family="Mono", size_pt=8),
    "pre": TextStyle(font_family="Mono", font_size_pt=8, t_margin=1, b_margin=2),
    "a": FontFace(color="#1f4e79"),
}


def typeset(markdown: str, folder: Path | str, pdf_path: Path, figures: Any = ()) -> "Pages":
    """Write `markdown`, whose picture paths are relative to `folder`, as a PDF.

    figures: path -> PNG bytes of pictures that are not on disk yet. Returns the pages, whose
    `headings` are those that begin one. Raises OSError for a picture that cannot be read.
    """
    figures = {Path(os.path.normpath(path)): content for path, content in dict(figures).items()}
    # A fixed date, so that the same text gives the same file, and a digest of that text.
    pages = Pages(f"sha256 {hashlib.sha256(markdown.encode()).hexdigest()}")
    try:
        for kind, content in blocks(markdown):
            if kind == "heading":
                pages.heading(*content)
            elif kind == "pictures":
                paths = [Path(os.path.normpath(Path(folder, name))) for _, name in content]
                images = [read_picture(path, figures) for path in paths]
                pages.pictures([caption for caption, _ in content], images)
            elif kind == "table":
                pages.numbers(content)
            else:
                pages.words(content)
        pages.output(str(pdf_path))
    except FPDFException as error:  # a table of sixty columns, a character without a picture
        raise OSError(f"report.md cannot be set in pages ({error}); change that") from None
    return pages


def blocks(markdown: str) -> Iterator[tuple[str, Any]]:
    """Blocks in their order: what kind, and what is in it.

    ("heading", (text, level)), ("table", rows of cells), ("pictures", (caption, path) pairs of a
    row) and ("words", Markdown).
    """
    text = re.sub(r"<!--.*?-->", "", markdown, flags=re.DOTALL)  # the marks of the parts
    picture = PICTURE.replace("(.", "(?:.").replace("(<", "(?:<")  # its groups would be parts
    parts = re.split(
        rf"(^#+ .*$|(?:^\|.*\n?)+|^```(?:.*\n)*?```$|{picture})", text, flags=re.MULTILINE
    )
    for part in filter(str.strip, parts):
        if part[0] == "#":
            marks, _, heading = part.partition(" ")
            yield "heading", (heading, len(marks))
        elif part[0] != "|" and not re.match(PICTURE, part):
            yield "words", part.strip()
        elif re.search(PICTURE, part):
            rows = [re.findall(PICTURE, line) for line in part.splitlines()]
            yield from (("pictures", [(c, p.strip("<>")) for c, p in row]) for row in rows if row)
        else:
            lines = [line.strip() for line in part.splitlines() if line.strip("|-: ")]  # no dashes
            yield "table", [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def plain(text: str) -> str:
    """Without the marks of bold type and code."""
    return re.sub(r"(\*\*|\*)(\S.*?)\1", r"\2", text).replace("`", "")


class Pages(FPDF):
    """A4 pages; every picture in them has a number."""

    def __init__(self, keywords: str):
        super().__init__(format="A4")
        self.headings: list[str] = []
        self.figure_number = 0
        self.filled: list[float] = []  # how far down each page is written, from 0 to 1
        self.set_title("Generative modelling: report")
        self.set_keywords(keywords)
        self.set_creation_date(datetime(2000, 1, 1, tzinfo=UTC))
        self.set_margins(MARGIN, MARGIN)
        self.set_auto_page_break(True, 16)
        fonts = Path(matplotlib.get_data_path(), "fonts/ttf")
        for family, names in FONTS.items():
            for style, name in zip(("", "B", "I", "BI"), names, strict=False):
                # matplotlib's own: the PDF looks the same on every machine.
                self.add_font(family, style, fonts / f"{name}.ttf")

    def footer(self) -> None:
        """The number of the page."""
        self.filled.append(self.fill())  # for the test that no page is half empty
        self.set_y(-12)
        self.set_font("Serif", size=9)
        self.cell(0, 5, str(self.page_no()), align="C")

    def fill(self) -> float:
        """How far down this page is written, from 0 to 1."""
        return (self.y - self.t_margin) / (self.h - self.t_margin - self.b_margin)

    def make_room(self, height: float) -> None:
        """Go on to a new page unless `height` is left on this one."""
        if not self.page or self.will_page_break(height):
            self.add_page()

    def heading(self, text: str, level: int) -> None:
        """Levels 1 and 2 begin a page; below a few lines only those of a question do."""
        few_lines = self.page and self.fill() < 0.3 and not text[:1].isdigit()
        if level <= 2 and not few_lines:
            self.headings.append(text)
            self.add_page()
        self.make_room(30)  # some lines of what stands below it
        self.start_section(text, level=min(level, 2) - 1)
        self.ln(0 if level <= 2 else 1.5)
        self.set_font("Sans", "B", {1: 17, 2: 14}.get(level, 10))
        self.multi_cell(
            0, {1: 10, 2: 9}.get(level, 6), text, align="L", new_x="LMARGIN", new_y="NEXT"
        )
        self.ln(1.5)

    def words(self, markdown: str) -> None:
        """Paragraphs, lists, code."""
        self.make_room(12)  # two lines at least
        self.set_font("Serif", size=10.5)
        html = as_html(markdown, extensions=["fenced_code", "sane_lists"])
        html = html.replace("<p>", '<p align="justify" line-height="1.12">')
        self.write_html(
            html, tag_styles=FONTS_OF_TAGS, ul_bullet_char="•", li_prefix_color="#000000"
        )
        self.ln(1)

    def numbers(self, rows: list[list[str]]) -> None:
        """A table, its first row in bold; columns of numbers are aligned to the right."""
        rows = [
            [plain(cell) for cell in (row + [""] * len(rows[0]))[: len(rows[0])]] for row in rows
        ]
        columns = list(zip(*rows, strict=True))
        aligned = tuple(
            "RIGHT" if all(map(NUMBER.fullmatch, column[1:])) else "LEFT" for column in columns
        )
        self.set_font("Sans", size=7)
        widths = self._widths(columns)
        self.make_room(5 * min(len(rows), 8))
        with self.table(
            width=sum(widths),
            col_widths=widths,
            text_align=aligned,
            align="LEFT",
            borders_layout=TableBordersLayout.SINGLE_TOP_LINE,  # below the header
            line_height=3.6,
            padding=(0.5, 1),
            headings_style=FontFace(emphasis="BOLD"),
        ) as table:
            for row in rows:
                table.row(row)
        self.ln(4)

    def _widths(self, columns: Sequence[Sequence[str]]) -> tuple[float, ...]:
        """As wide as their longest cells; where there is no room, the widest give way."""
        self.set_font("Sans", "B")
        widest = [max(self.get_string_width(cell) for cell in column) + 3 for column in columns]
        self.set_font("Sans", "")
        limit = max(widest)
        while sum(min(width, limit) for width in widest) > self.epw:
            limit *= 0.98  # narrow columns keep their width, wide ones break their lines
        return tuple(min(width, limit) for width in widest)

    def pictures(self, captions: Sequence[str], images: Sequence[Image.Image]) -> None:
        """A row of one height, as tall as the page's width allows; the captions below."""
        room = self.epw - GAP * (len(images) - 1)
        # One height h for all: their widths, h times width / height, fill the page.
        height = min(TALLEST, room / sum(image.width / image.height for image in images))
        widths = [height * image.width / image.height for image in images]
        self.make_room(height + 15)
        self.ln(1.5)
        x, y, bottom = self.l_margin + (room - sum(widths)) / 2, self.y, self.y
        self.set_font("Serif", "I", 9)
        for image, width, caption in zip(images, widths, captions, strict=True):
            self.figure_number += 1
            self.image(embedded(image), x, y, width, height)
            self.set_xy(x, y + height + 1)
            caption = f"Figure {self.figure_number}. {plain(caption)}"
            self.multi_cell(width, 3.6, caption, align="C", new_x="LMARGIN", new_y="NEXT")
            x, bottom = x + width + GAP, max(bottom, self.y)
        self.set_y(bottom + 3)


def read_picture(path: Path, figures: Any) -> Image.Image:
    """A picture of `figures` or on disk, each of its pixels once."""
    try:
        with Image.open(io.BytesIO(figures[path]) if path in figures else path) as image:
            return unzoomed(image.convert("RGB"))  # smaller in the file, and as sharp
    except (OSError, SyntaxError, ValueError) as error:
        raise OSError(f"{path}: cannot be read as a picture ({error}); restore it") from None


def unzoomed(image: Image.Image) -> Image.Image:
    """Where all blocks of 2x2 pixels are of one colour, one pixel for each."""
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST)
    same = half.resize(image.size, Image.Resampling.NEAREST).tobytes() == image.tobytes()
    return unzoomed(half) if same and min(half.size) > 1 else image


def embedded(image: Image.Image) -> Image.Image | io.BytesIO:
    """What goes into the file: a drawing as it is, of photographs a JPEG."""
    if image.getcolors(5000):  # a curve's thin lines would blur in a JPEG
        return image
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=60, subsampling=0)  # birds of 32 pixels have small colours
    return jpeg
