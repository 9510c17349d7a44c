"""Lay a comparison out: one self-contained HTML page, and Markdown with its pictures beside it."""

from pathlib import Path

from congling.core.artifact import write_text
from congling.core.output import make_folder
from congling.report.comparison import Comparison
from congling.report.pages import html_page, markdown_page


def write(found: Comparison, out: Path | str) -> Path:
    """Write ``NAME.html``, ``NAME.md`` and the charts as ``NAME-*.svg`` side by side; returns the page.

    ``out`` names the page; what stands there is replaced.
    """
    page = Path(out)
    make_folder(page.parent)
    charts = [vars(chart) | {"file": f"{page.stem}-{chart.file}"} for chart in found.charts]
    values = vars(found) | {"charts": found.charts}
    write_text(page, html_page("compare.html.jinja", values))
    write_text(page.with_suffix(".md"), markdown_page("compare.md.jinja", values | {"charts": charts}))
    for chart in charts:
        write_text(page.with_name(chart["file"]), chart["standalone"] + "\n")
    return page
