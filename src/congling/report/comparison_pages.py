"""Lay a comparison out: one self-contained HTML page, and Markdown with a folder of its pictures."""

from pathlib import Path

from congling.core.artifact import write_text
from congling.core.output import make_folder
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
