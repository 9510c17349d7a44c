import pytest

from congling.core.units import amount, plural, seconds, show_bytes, show_count, show_seconds, some


@pytest.mark.parametrize(
    ("text", "value"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172800), (7, 7), ("0.5h", 1800)]
)
def test_seconds(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "15", "m", "15 minutes", "3x", "1m x", "1.5.2m", ".5m", "1..5h", "1m.", "1h.30m", "٣m", "-1m"],
)
def test_no_duration(text):
    with pytest.raises(ValueError, match="no duration"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e6", 3_000_000),
        ("500k", 500_000),
        ("2MB", 2_000_000),
        ("1_000", 1000),
        (5, 5),
        ("1.5M", 1_500_000),
        ("1.001k", 1001),
        (3e6, 3_000_000),
    ],
)
def test_amount(text, value):
    assert amount(text) == value


@pytest.mark.parametrize(
    "text", ["", "MB", "2 apples", "-3", "1e999", "1.5.2M", "1e", "1_", "_1", "1__0", "٣", "3e6e2", "1 2"]
)
def test_no_amount(text):
    with pytest.raises(ValueError, match="no amount"):
        amount(text)


@pytest.mark.parametrize("given", ["1.5", "1.0005k", 2.5])
def test_an_amount_is_whole(given):
    with pytest.raises(ValueError, match="no whole number"):
        amount(given)


def test_shown():
    assert [show_seconds(value) for value in (0.44, 42, 185, 7800, 1_083_600)] == [
        "0.4 s",
        "42 s",
        "3 m 05 s",
        "2 h 10 m",
        "12 d 13 h",
    ]
    assert [show_bytes(value) for value in (512, 1_800_000, 3.2e9, 2e12)] == [
        "512 B",
        "1.8 MB",
        "3.2 GB",
        "2.0 TB",
    ]
    assert [show_count(value) for value in (950, 4600, 7.2e6, 1.3e9)] == ["950", "4.6 k", "7.2 M", "1.3 B"]
    assert [plural(count, "step") for count in (0, 1, 2)] == ["steps", "step", "steps"]
    assert some(["a", "b"]) == "a, b" and some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
