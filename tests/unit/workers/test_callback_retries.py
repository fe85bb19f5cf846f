"""When callbacks are tried again."""

import pytest

from shared.bulk.events import EventState
from shared.bulk.settings import WebhookSettings
from workers.callbacks.retries import Outcome, after_failure
from workers.sink import DeliveryFailed, Verdict

DELAYS = WebhookSettings().retry_delays()


def test_the_schedule_is_that_of_standard_webhooks() -> None:
    hour = 3600
    assert [5, 300, 1800, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour] == DELAYS


@pytest.mark.parametrize("failures", range(9))
def test_each_delay_has_up_to_a_fifth_more(failures: int) -> None:
    failure = DeliveryFailed("no")

    assert after_failure(failure, failures, DELAYS, 0.0) == Outcome(EventState.PENDING, DELAYS[failures])
    assert after_failure(failure, failures, DELAYS, 1.0).delay_s == pytest.approx(1.2 * DELAYS[failures])


def test_after_the_tenth_attempt_it_is_given_up() -> None:
    assert after_failure(DeliveryFailed("no"), 9, DELAYS, 0.5).state is EventState.DEAD


@pytest.mark.parametrize("verdict", [Verdict.GIVE_UP, Verdict.GONE])
def test_what_cannot_get_better_is_not_tried_again(verdict: Verdict) -> None:
    assert after_failure(DeliveryFailed("no", verdict=verdict), 0, DELAYS, 0.5).state is EventState.DEAD


def test_a_receiver_that_asks_for_more_time_gets_it_and_one_that_asks_for_less_does_not() -> None:
    assert after_failure(DeliveryFailed("no", retry_after_s=60), 0, DELAYS, 0.0).delay_s == 60
    assert after_failure(DeliveryFailed("no", retry_after_s=1), 1, DELAYS, 0.0).delay_s == 300


@pytest.mark.parametrize("listed", ["5, x", "-1", "nan5"])
def test_a_schedule_that_is_none_is_refused(listed: str) -> None:
    with pytest.raises(ValueError, match="webhook_retries_s"):
        WebhookSettings(webhook_retries_s=listed)


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="webhook_hosts"):
        WebhookSettings(webhook_hosts="10.0.0.0/99")
