"""Numbers from files that anyone may have written: finite, of a size to reckon with, or none."""

LARGEST, SMALLEST = 1e30, 1e-30
"""No loss, count or time comes near; sums, squares, products and quotients of such numbers stay finite."""


def finite(value: object) -> float | None:
    """``value`` as a number if it is one that a log can hold, else ``None``; what is next to nothing is 0.

    >>> finite(3), finite(10**400), finite("3"), finite(True), finite(float("nan")), finite(5e-324)
    (3.0, None, None, None, None, 0.0)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not -LARGEST <= value <= LARGEST:
        return None
    return float(value) if abs(value) >= SMALLEST else 0.0


def whole(value: object) -> int | None:
    """``value`` as a whole number that is not negative, else ``None``.

    >>> whole(3), whole(3.0), whole(3.5), whole(-1), whole(1e300)
    (3, 3, None, None, None)
    """
    number = finite(value)
    return int(number) if number is not None and number >= 0 and number == int(number) else None
