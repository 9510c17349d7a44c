"""Progress shows itself where work takes long, and says how much of it is done."""

import pytest

from congling.core import progress


@pytest.mark.parametrize(("patience", "shown"), [(0.0, True), (60.0, False)])
def test_what_takes_long_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], patience: float, shown: bool
):
    monkeypatch.setattr(progress, "PATIENCE", patience)
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal
    assert list(progress.track(range(7), "writing", total=7, unit="tensors")) == list(range(7))
    assert ("7 of 7 tensors" in capsys.readouterr().err) == shown


def test_nothing_is_shown_in_a_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert list(progress.track("abc", "reading")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
