"""Numbers and lists as people write them; a minus sign is a minus sign."""

from collections.abc import Sequence

from augcam.statistics.intervals import Estimate


def plural(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """`a, b and c`; beyond `most` how many more."""
    names = list(names)
    if len(names) > most:
        names = [*names[:most], f"{len(names) - most} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def signed(value: float, digits: int) -> str:
    """`+1.3`, `−0.8`, `0.0`."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text[1:] if float(f"{value:.{digits}f}") == 0 else text


def points(fraction: float, digits: int = 1) -> str:
    """A difference of accuracies (0..1) in percentage points."""
    return signed(100 * fraction, digits)


def interval(low: float, high: float, digits: int = 1) -> str:
    """`−0.6 to +2.0`."""
    return f"{signed(low, digits)} to {signed(high, digits)}"


def estimate(value: Estimate, digits: int, factor: float = 1, sign: str = "") -> str:
    """`factor` times a mean and half of its interval, where it has one: `93.4 ± 0.3`."""
    text = f"{factor * value.mean:{sign}.{digits}f}".replace("-", "−")
    if value.low is None or value.high is None:
        return text
    return f"{text} ± {factor * (value.high - value.low) / 2:.{digits}f}"


def percent(value: Estimate) -> str:
    """A mean of accuracies (0..1): `93.4%`."""
    return f"{100 * value.mean:.1f}%"


def six_digits(value: object) -> str:
    """A setting; of a float six digits, as what a search draws has 17."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def p_value(p: float) -> str:
    """`0.31`, `0.004`, `<0.001`."""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def duration(seconds: float) -> str:
    """`9.5 s`, `12 min`, `2.3 h`."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
