"""The report of whatever stands at a path: a run of any method, or a checkpoint."""

from pathlib import Path

from congling.core import artifact
from congling.core.artifact import leads_out
from congling.core.disk import Refused
from congling.core.errors import UserError
from congling.report import checkpoint_content, pages, record


def write_report(path: Path | str, out: Path | str | None = None) -> Path:
    """Write ``report.html``, ``report.md`` and charts; returns the HTML file.

    Raises:
        UserError: there is no run or checkpoint at ``path``, or the folder cannot be written to.
    """
    place = record.locate(path)
    if out is None and leads_out(place / "report", place):
        hint = "remove the link, or name a folder with --out"
        raise UserError("a link leads out of this run", value=str(place / "report"), hint=hint)
    try:
        if artifact.exists(place) and not (place / "metrics.jsonl").is_file():
            return checkpoint_content.write(place, place / "report" if out is None else out)
        return pages.write(record.read(place), place / "report" if out is None else out)
    except Refused as error:
        raise error.and_then("name another folder with --out") from error
