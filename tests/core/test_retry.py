"""Back-off arithmetic: how long, how often, how much chance."""

import pytest

from agentdur.core.retry import RetryPolicy, with_jitter


def test_the_default_doubles_from_half_a_second_to_a_minute():
    delays = [RetryPolicy().delay_ms(failures) for failures in range(1, 11)]
    assert delays == [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]


def test_the_first_wait_is_the_initial_one_even_above_the_maximum():
    assert RetryPolicy(delay_ms_initial=200, delay_ms_max=5_000).delay_ms(1) == 200
    assert RetryPolicy(delay_ms_initial=9_000, delay_ms_max=5_000).delay_ms(1) == 5_000


def test_a_factor_of_one_waits_the_same_each_time():
    assert {RetryPolicy(factor=1.0).delay_ms(failures) for failures in (1, 7, 700)} == {500}


def test_a_small_factor_still_reaches_the_maximum():
    """1.01 needs 482 failures to come from half a second to a minute."""
    slow = RetryPolicy(factor=1.01)
    assert slow.delay_ms(70) == int(500 * 1.01**69)
    assert slow.delay_ms(481) < 60_000
    assert slow.delay_ms(483) == 60_000


def test_a_wait_larger_than_any_number_is_the_maximum():
    assert RetryPolicy(factor=1e10).delay_ms(65) == 60_000
    assert RetryPolicy().delay_ms(1_000_000) == 60_000


@pytest.mark.parametrize(
    ("attempts_max", "failures", "exhausted"),
    [(3, 2, False), (3, 3, True), (3, 4, True), (1, 1, True), (0, 1, True), (None, 10**9, False)],
)
def test_the_maximum_of_attempts_counts_the_first(attempts_max, failures, exhausted):
    assert RetryPolicy(attempts_max=attempts_max).exhausted(failures) is exhausted


def test_seventy_attempts_are_the_default_and_then_a_pause():
    assert not RetryPolicy().exhausted(69)
    assert RetryPolicy().exhausted(70)
    assert RetryPolicy().on_exhausted == "pause"


@pytest.mark.parametrize(
    ("delay_ms", "chance", "expected"),
    [
        (1_000, 0.0, 1_003),
        (1_000, 0.5, 1_150),
        (1_000, 1.0 - 2**-53, 1_299),
        (5, 0.9, 8),
        (0, 0.9, 3),
    ],
)
def test_chance_adds_three_milliseconds_to_three_tenths(delay_ms, chance, expected):
    assert with_jitter(delay_ms, chance) == expected
