"""Lay a comparison out: one self-contained HTML page, and Markdown with a folder of its pictures."""

from pathlib import Path

from congling.core.artifact import write_text
from congling.core.errors import UserError
from congling.core.output import make_folder, refuse_existing
from congling.report.comparison import Comparison
from congling.report.pages import html_page, markdown_page


def write(found: Comparison, out: Path | str) -> Path:
    """Write ``NAME.html``, ``NAME.md`` and its pictures as ``NAME-charts/….svg``; returns the page.

    ``out`` names the page; what stands there is replaced.

    Raises:
        UserError: the folder of the page cannot be made.
    """
    page = Path(out)
    folder = page.with_name(f"{page.stem}-charts")
    make_folder(folder if found.charts else page.parent)
    charts = [vars(chart) | {"file": f"{folder.name}/{chart.file}"} for chart in found.charts]
    values = vars(found) | {"charts": found.charts}
    write_text(page, html_page("compare.html.jinja", values))
    write_text(page.with_suffix(".md"), markdown_page("compare.md.jinja", values | {"charts": charts}))
    for chart in found.charts:
        write_text(folder / chart.file, chart.standalone + "\n")
    return page


def refuse(out: Path, *, overwrite: bool) -> None:
    """Refuse a page that cannot be written, before the work.

    Raises:
        UserError: its name is none of a page, or it exists.
    """
    if out.suffix != ".html":
        raise UserError("the page is an .html file", value=str(out), hint=f"--out {out.with_suffix('.html')}")
    refuse_existing(out, overwrite=overwrite)
