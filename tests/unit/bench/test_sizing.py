"""The formula of docs/sizing.md: what is fitted by two lengths, and that it holds for a measurement which is kept."""

import json
import math
from pathlib import Path
from statistics import median

import pytest

from bench.sizing import CALIBRATION, Pass, Speed, Work

RESULTS = Path(__file__).parents[3] / "bench" / "results"
#: MiniLM: six layers of width 384, and its linear layers.
PER_PAIR, PER_TOKEN = 4.0 * 6 * 384, 21_233_664.0


def _pass(length: int, tokens: float, speed: Speed) -> Pass:
    work = Work(PER_TOKEN * tokens, PER_PAIR * length * tokens)
    return Pass(work, tokens, speed.seconds(work))


def test_a_device_is_known_by_a_short_and_a_long_length() -> None:
    device = Speed(linear=180e9, attention=90e9)

    fitted = Speed.fitted(_pass(16, 8192, device), _pass(512, 12_288, device))

    assert fitted.linear == pytest.approx(device.linear)
    assert fitted.attention == pytest.approx(device.attention)


def test_attention_costs_nothing_where_long_texts_are_no_slower() -> None:
    short, long = (Pass(Work(PER_TOKEN * 8192, PER_PAIR * length * 8192), 8192, 1.0) for length in (16, 512))

    assert Speed.fitted(short, long) == Speed(PER_TOKEN * 8192, math.inf)


@pytest.mark.parametrize("kind", ["128", "256", "mix"])
def test_the_formula_is_within_15_percent_of_a_measurement_that_is_kept(kind: str) -> None:
    rows = json.loads((RESULTS / "2026-11-29-engine-two-cores.json").read_text())["rows"]

    def measured(kind: str) -> Pass:
        rounds = rows[f"{kind}/millrace"]
        tokens, flops = rounds[0]["tokens"], rounds[0]["flops"]
        linear = PER_TOKEN * tokens
        return Pass(Work(linear, flops - linear), tokens, median(each["seconds"] for each in rounds))

    speed = Speed.fitted(*(measured(each) for each in CALIBRATION))

    found = measured(kind)
    assert speed.seconds(found.work) == pytest.approx(found.seconds, rel=0.15)
