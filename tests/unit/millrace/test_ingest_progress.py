"""What the person at the terminal is told, and what a signal may not break."""

import signal
import time

import pytest

from millrace.ingest import progress
from millrace.ingest.interrupts import Interrupts
from millrace.ingest.plan import Plan
from millrace.ingest.problems import InputProblem
from millrace.ingest.progress import Lines, Standing, duration, rows


def standing(**changes: object) -> Standing:
    usual: dict[str, object] = {
        **{"sent": 20_000, "sent_bytes": 1_234_567, "all_sent": True, "done": 512, "failed": 0, "tokens": 65_400},
        **{"rate": 830.4, "left_s": 23.4, "written": None},
    }
    return Standing(**{**usual, **changes})  # type: ignore[arg-type]


def told(**changes: object) -> dict[str, str]:
    return {row.name: row.facts for row in rows(standing(**changes))}


def test_a_moment_in_words() -> None:
    assert told() == {
        "sent": "20,000 documents, 1.2 MB",
        "embedded": "512 of 20,000, 830/s, 23 s left, 65.4 k tokens",
    }
    assert told(failed=3, written=448)["embedded"] == "512 of 20,000, 3 failed, 830/s, 23 s left, 65.4 k tokens"
    assert told(written=448)["written"] == "448 of 20,000"


def test_before_all_is_sent_there_is_no_total() -> None:
    assert told(all_sent=False, left_s=None)["embedded"] == "512, 830/s, 65.4 k tokens"
    assert all(row.total is None for row in rows(standing(all_sent=False, written=0)))


def test_a_service_that_is_away_is_waited_for() -> None:
    assert told(is_away=True)["embedded"] == "512 of 20,000, waiting for the service, 65.4 k tokens"


def test_a_resumed_ingest_with_nothing_to_send_says_nothing_of_it() -> None:
    assert "sent" not in told(sent_bytes=0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (3599, "59 min 59 s"), (43_620, "12 h 07 min")],
)
def test_time_spans(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_without_a_terminal_there_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LINE_PERIOD_S", 0.05)
    lines = Lines()

    lines.show(standing())
    time.sleep(0.06)
    lines.show(standing())
    lines.show(standing())

    assert capsys.readouterr().err == (
        "sent 20,000 documents, 1.2 MB; embedded 512 of 20,000, 830/s, 23 s left, 65.4 k tokens\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_shielded_is_done_whole(number: signal.Signals) -> None:
    before, done = signal.getsignal(number), []

    def write() -> None:
        with Interrupts() as interrupts:
            with interrupts.shielded():
                signal.raise_signal(number)
                done.append("whole")
            done.append("never")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == ["whole"]
    assert signal.getsignal(number) is before


def test_outside_and_the_second_time_a_signal_acts_at_once() -> None:
    done = []

    def write() -> None:
        with Interrupts() as interrupts, interrupts.shielded():
            signal.raise_signal(signal.SIGINT)
            done.append("first")
            signal.raise_signal(signal.SIGINT)
            done.append("second")

    with Interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == ["first"]


def test_a_plan_comes_back_from_the_job_it_was_given_to() -> None:
    plan = Plan(text_field="body", chunk_chars=600, kinds="dense,sparse").for_files(["a.csv", "b.csv"])

    kept = Plan.of_job({"metadata": plan.as_metadata()})

    assert kept == plan
    assert Plan.of_job({"metadata": None}) is None
    plan.check_files(["a.csv", "b.csv"])
    plan.check_resumed(Plan(text_field="body"))
    with pytest.raises(InputProblem, match="begun with 2 files of other names than these 1"):
        plan.check_files(["a.csv"])
    with pytest.raises(InputProblem, match="begun with --chunk-chars 600; leave --chunk-chars out"):
        plan.check_resumed(Plan(chunk_chars=700))
