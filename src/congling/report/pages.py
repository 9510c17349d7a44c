"""Lay a report out: one self-contained HTML page, and Markdown with its pictures beside it.

Samples, prompts and names come from data and models, so everything is escaped: HTML by the template engine,
Markdown by backslashes, and longer text as a code block.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FunctionLoader
from markupsafe import Markup

from congling.core import terminal
from congling.core.artifact import write_text
from congling.core.output import make_folder
from congling.core.progress import stage
from congling.report.content import Content, content
from congling.report.record import RunRecord

HTML_FILE, MARKDOWN_FILE = "report.html", "report.md"


@stage("writing the report")
def write(run: RunRecord, out: Path | str) -> Path:
    """Write the report of a run; see :func:`write_content`."""
    if Path(out).resolve().is_relative_to(run.path.resolve()):
        terminal.keep_log(run.path)
    return write_content(content(run), out)


def write_content(found: Content, out: Path | str) -> Path:
    """Write ``report.html``, ``report.md`` and the charts' ``.svg`` into a folder; returns the HTML file.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = Path(out)
    make_folder(folder)
    write_text(folder / HTML_FILE, html(found))
    write_text(folder / MARKDOWN_FILE, markdown(found))
    for chart in found.charts:
        write_text(folder / chart.file, chart.standalone + "\n")
    return folder / HTML_FILE


def html(found: Content) -> str:
    """Return the page of a report."""
    return html_page("page.html.jinja", vars(found))


def markdown(found: Content) -> str:
    """Return the Markdown text of a report."""
    return markdown_page("page.md.jinja", vars(found))


def html_page(template: str, values: Mapping[str, Any]) -> str:
    """Fill in a page; only our own style sheet and charts enter it unescaped."""
    environment = Environment(autoescape=True, trim_blocks=False, loader=FunctionLoader(_resource))
    charts = [
        {"title": chart.title, "svg": Markup(chart.svg), "narrow": Markup(chart.narrow)}
        for chart in values["charts"]
    ]
    return environment.get_template(template).render(
        {**values, "charts": charts, "style": Markup(_resource("style.css"))}
    )


def markdown_page(template: str, values: Mapping[str, Any]) -> str:
    """Fill in a Markdown text."""
    environment = Environment(autoescape=False, loader=FunctionLoader(_resource))
    environment.filters |= {"md": markdown_line, "block": markdown_block, "file": quote}
    text = environment.get_template(template).render(values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def markdown_line(text: object) -> str:
    """Escape text for one line of Markdown.

    >>> markdown_line("a|b <i>")
    'a\\\\|b &lt;i&gt;'
    """
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#!])", r"\\\1", line)


def markdown_block(text: object) -> str:
    """Return a code block, fenced longer than any fence in the text."""
    content = str(text)
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{content}\n{fence}"


def _resource(name: str) -> str:
    return (files("congling.report") / name).read_text(encoding="utf-8")
