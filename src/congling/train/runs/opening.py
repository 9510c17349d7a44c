"""Before a run: its directory, made or found to be that of the same run, and what it needs."""

from collections.abc import Mapping

from congling.core.artifact import write_text
from congling.core.config import Config, load
from congling.core.differences import require_same
from congling.core.errors import UserError
from congling.core.rundir import RunDirectory
from congling.train.config import TrainConfig
from congling.train.runs import longer
from congling.train.runs.hooks import Evaluate
from congling.train.runs.settings import ADVICE, harmless, require_unedited, take_over


def open_directory(run: RunDirectory, config: Config, files: Mapping[str, str], *, must_resume: bool) -> None:
    """Create the directory with its ``config.toml``, or check that it is that of the same run.

    Keys that do not touch the weights may have new values, which ``config.toml`` says from then on.

    Raises:
        UserError: it is not; the message names the keys that differ, then and now.
    """
    if run.config.is_file():
        before = load(type(config), run.config, recorded=True)
        require_unedited(run, before, longer.read(run))
        require_same(before, config, where=run.path, harmless=harmless(before, config), advice=ADVICE)
        if take_over(run, before, config):
            write_text(run.config, config.to_toml())
        return
    if must_resume:
        raise UserError(
            "there is no run to resume", value=str(run.path), hint="leave out --resume to start one"
        )
    if run.checkpoints() or run.log("metrics").path.exists():
        raise UserError(
            "the directory holds a run whose config.toml is gone",
            value=str(run.path),
            hint="choose another --out",
        )
    try:
        (run.path / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a file of this name, or no right to write here
        hint = "choose another --out"
        raise UserError(
            f"the run directory cannot be made ({error.strerror})", value=str(run.path), hint=hint
        ) from None
    for name, text in files.items():
        write_text(run.path / name, text)
    write_text(run.config, config.to_toml())  # last: a directory without it was never begun


def require_eval(config: TrainConfig, evaluate: Evaluate | None) -> None:
    """Refuse what needs held-out numbers where the run measures none.

    Raises:
        UserError: ``early_stopping_patience`` or ``metric_for_best_model`` is set, and nothing is held out.
    """
    if evaluate is None and (
        config.early_stopping_patience is not None or config.metric_for_best_model != "loss"
    ):
        key = (
            "train.early_stopping_patience"
            if config.early_stopping_patience is not None
            else "train.metric_for_best_model"
        )
        raise UserError(
            f"{key} needs held-out numbers, and nothing is held out",
            value=config.early_stopping_patience or config.metric_for_best_model,
            hint="hold some text out (data.split.validation), or leave it out",
        )
