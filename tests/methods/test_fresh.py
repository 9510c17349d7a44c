"""``--fresh`` puts a run aside, whole and under a free name, and nothing that is no run."""

import os

import pytest

from congling.core import artifact
from congling.core.errors import UserError
from congling.core.lock import only_writer
from congling.methods.fresh import begin_anew, put_aside


@pytest.fixture
def run(tmp_path):
    place = tmp_path / "book"
    place.mkdir()
    (place / "config.toml").write_text("")
    (place / "weights").write_text("trained for hours")
    return place


def test_what_was_there_is_kept_under_a_free_name_and_said(run, capsys):
    (run.parent / "book.before-1").mkdir()
    aside = put_aside(run)
    assert aside == run.parent / "book.before-2" and not run.exists()
    assert (aside / "weights").read_text() == "trained for hours"
    assert f"the run that was here is now {aside}" in capsys.readouterr().err


def test_where_there_is_nothing_nothing_happens(tmp_path, capsys):
    assert put_aside(tmp_path / "absent") is None
    (tmp_path / "empty").mkdir()
    assert put_aside(tmp_path / "empty") is None
    assert (tmp_path / "empty").is_dir() and not capsys.readouterr().err


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_run_stays_where_it_is(tmp_path, kind):
    place = tmp_path / "home"
    if kind == "file":
        place.write_text("precious")
    else:
        place.mkdir()
        (place / "letter.txt").write_text("precious")
    with pytest.raises(UserError, match="this is none"):
        put_aside(place)
    assert os.path.lexists(place)


@pytest.mark.parametrize("left", [".lock", ".documents.partial-123", ".tokenizer.old-5-abcdef01"])
def test_the_beginnings_of_a_run_are_one(tmp_path, left):
    place = tmp_path / "book"
    place.mkdir()
    (place / left).write_text("")
    assert put_aside(place) is not None


def test_what_train_wrote_is_a_run_from_its_first_step_on(tmp_path):
    with artifact.writing(tmp_path / "book" / "documents", "documents"):
        pass
    assert put_aside(tmp_path / "book") is not None


@pytest.mark.parametrize("inner", [".", "run"])
def test_a_run_in_use_is_not_moved(run, inner):
    (run / "run").mkdir()
    with only_writer(run / inner), pytest.raises(UserError, match="another process is working"):
        put_aside(run)
    assert run.is_dir()


def test_what_is_read_meanwhile_is_not_moved(run):
    with pytest.raises(UserError, match="take the place of what it is made from"):
        put_aside(run, run / "weights")
    assert run.is_dir()


def test_the_current_directory_is_not_moved(run, monkeypatch):
    (run / "run").mkdir()
    monkeypatch.chdir(run / "run")
    with pytest.raises(UserError, match="the current directory lies in"):
        put_aside(run)


@pytest.mark.parametrize(("other", "name"), [({"resume": True}, "--resume"), ({"longer": "1m"}, "--longer")])
def test_one_cannot_begin_anew_and_go_on(run, other, name):
    with pytest.raises(UserError, match=f"--fresh {name}"):
        begin_anew(run, fresh=True, **other)
    begin_anew(run, fresh=False, **other)
    assert run.is_dir()


def test_of_several_processes_the_first_moves(run, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    begin_anew(run, fresh=True)
    assert run.is_dir()
