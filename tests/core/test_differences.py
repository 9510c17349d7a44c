"""What differs between then and now is named with both values."""

from pathlib import Path

import pytest

from congling.core.config import Config
from congling.core.differences import differences, listed, require_same
from congling.core.errors import UserError


class Inner(Config):
    rate: float = 1.0
    name: str | None = None


class Outer(Config):
    inner: Inner = Inner()
    on: bool = False
    files: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"inner": {"rate": 2.0}}, "inner.rate 1.0 → 2.0"),
        ({"inner": {"name": "x"}}, "inner.name (not given) → x"),
        ({"on": True}, "on false → true"),
        ({"files": ("a", "b")}, "files [] → ['a', 'b']"),
        ({"inner": {"name": "天" * 99}}, "inner.name (not given) → " + "天" * 59 + "…"),
        ({"inner": {"name": "\x1b[2J\n"}}, "inner.name (not given) → ?[2J?"),
        ({"on": True, "inner": {"rate": 2.0}}, "inner.rate 1.0 → 2.0, on false → true"),
        ({}, ""),
    ],
)
def test_each_key_is_shown_with_its_old_and_its_new_value(changes, expected):
    assert listed(differences(Outer(), Outer().replace(**changes))) == expected


def test_the_error_names_keys_values_and_what_to_do():
    with pytest.raises(UserError) as refused:
        require_same(Outer(), Outer(on=True), where=Path("runs/a"), advice={"on": "or leave it off"})
    said = str(refused.value)
    assert "made with other settings: 'on' (in runs/a)" in said
    assert "on false → true; keep the old values" in said and said.endswith("--fresh; or leave it off")


def test_harmless_keys_may_differ_and_are_named_in_full():
    require_same(Outer(), Outer(on=True), where=Path("a"), harmless={"on"})
    with pytest.raises(UserError, match=r"inner\.rate"):
        require_same(Outer(), Outer(inner=Inner(rate=2.0)), where=Path("a"), harmless={"rate"})


def test_a_name_that_a_file_could_not_hold_is_the_same_name():
    assert not differences(Outer(files=("a\ufffd",)), Outer(files=("a\udcff",)))
