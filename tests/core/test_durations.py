"""Durations as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentdur.core.durations import DURATION_DAYS_MAX, BadDuration, format_duration, parse_duration

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000

WRITTEN = {
    # ISO 8601
    "PT1S": SECOND,
    "PT1.5S": 1_500,
    "PT1,5S": 1_500,
    "PT1H30M": 90 * MINUTE,
    "P1DT2H": 26 * HOUR,
    "P1dt2h": 26 * HOUR,
    "P1D": DAY,
    "P1W": 7 * DAY,
    "P1W2D": 9 * DAY,
    "PT0S": 0,
    "pt1s": SECOND,
    "+PT1S": SECOND,
    "PT1.5H": 90 * MINUTE,
    "PT1.123456789S": 1_123,
    "P0Y1D": DAY,
    "P0M": 0,
    # friendly
    "0": 0,
    "0s": 0,
    "0d": 0,
    "1s": SECOND,
    "+1s": SECOND,
    "1000ms": SECOND,
    "1us": 0,
    "100ns": 0,
    "1500us": 1,
    "1ms 600us": 1,
    "1.5s": 1_500,
    "1,5s": 1_500,
    "1.5h": 90 * MINUTE,
    "0.000000001s": 0,
    "0001s": SECOND,
    "1h30m": 90 * MINUTE,
    "1d": DAY,
    "1w": 7 * DAY,
    "1week": 7 * DAY,
    "10 days": 10 * DAY,
    "1 hour 30 minutes": 90 * MINUTE,
    "1 hour, 2 minutes": 62 * MINUTE,
    "1h, 2m": 62 * MINUTE,
    "1h  2m": 62 * MINUTE,
    "1\ts": SECOND,
    "1s ": SECOND,
    "2h": 2 * HOUR,
    "3 days": 3 * DAY,
    "1min 3s": 63 * SECOND,
    "0y 1s": SECOND,
    "1µs": 0,
    # clock
    "00:00:05": 5 * SECOND,
    "0:0:5": 5 * SECOND,
    "1:2:3": HOUR + 2 * MINUTE + 3 * SECOND,
    "100:00:00": 100 * HOUR,
    "00:99:99": 99 * MINUTE + 99 * SECOND,
    "00:00:05.5": 5_500,
    "1d 00:00:05": DAY + 5 * SECOND,
    "1d, 00:00:05": DAY + 5 * SECOND,
    f"{DURATION_DAYS_MAX}d": DURATION_DAYS_MAX * DAY,
}

REFUSED = (
    *("", " ", "abc", "1000", "500", "00", "0.0", "-1s", "PT-5S", "-PT1S", "1s ago", "1sago", "ago"),
    *("P1M", "P1Y", "1 month", "1 year", "1mo", "1y", "1mon"),
    *("P", "PT", "P1DT", "P1D2W", "PT1M1H", "PT1H1H", "PT1 S", " PT1S", "PT1S ", "PT1.S", "PT.5S", "P1.5D"),
    *("PT1.5H30M", "PT1.0000000001S", "P1S", "PT1D"),
    *("1S", "1MS", "1D", "1Ms", "1minutess", "1μs", "１s", "1_0s", "1e3s", "1..5s"),
    *("1.5d", "1.5w", "1.5ns", "1.5h30m", "1.s", ".5s", "1 .5s", "1. 5s", "1.1234567891s"),
    *("1 hour,2 minutes", "1 hour ,2 minutes", "1s,", "1s, ", "1h,,2m", "1h and 2m", " 1s", "1h\u00a02m"),
    *("1s1s", "1m 1h", "00:00", "1h 00:00:05", "00:00:05 1s", "1:", "1:2:", ":::"),
    *(f"{DURATION_DAYS_MAX + 1}d", "1043498w", f"P{DURATION_DAYS_MAX + 1}D", "9" * 19 + "s"),
    *("9223372036854775808ns", "9" * 5_000 + "s", "P" + "1D" * 5_000),
)


@pytest.mark.parametrize(("text", "ms"), WRITTEN.items(), ids=WRITTEN)
def test_a_duration_is_read_in_both_grammars(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:24] or "empty")
def test_what_is_no_duration_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(BadDuration) as refused:
        parse_duration(text)
    assert len(str(refused.value)) > 10


def test_the_reason_names_what_is_wrong() -> None:
    with pytest.raises(BadDuration, match="days or smaller"):
        parse_duration("2 months")
    with pytest.raises(BadDuration, match="longer than 7304484 days"):
        parse_duration("7304484d 1s")
    with pytest.raises(BadDuration, match="expected a unit"):
        parse_duration("10")


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (500, "500ms"),
        (63_000, "1m 3s"),
        (600_000, "10m"),
        (DAY, "1d"),
        (90_061_001, "1d 1h 1m 1s 1ms"),
    ],
)
def test_durations_are_shown_in_the_friendly_form(ms: int, text: str) -> None:
    assert format_duration(ms) == text


def test_a_negative_duration_cannot_be_shown() -> None:
    with pytest.raises(ValueError, match="-1"):
        format_duration(-1)


@given(st.integers(min_value=0, max_value=DURATION_DAYS_MAX * DAY))
def test_what_is_shown_reads_back(ms: int) -> None:
    assert parse_duration(format_duration(ms)) == ms


@given(st.text(alphabet="0123456789PTYMWDHSptsmhduy:., -+ago", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        ms = parse_duration(text)
    except BadDuration:
        return
    assert 0 <= ms <= DURATION_DAYS_MAX * DAY


@given(st.text(max_size=30))
def test_any_unicode_is_read_or_refused(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except BadDuration as refused:
        assert str(refused)
