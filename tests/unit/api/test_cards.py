"""Cards of another version, as workers write them while a deployment is upgraded."""

import json
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from api.backlog import Backlog
from api.cards import Cards
from shared.queues import Lane
from tests.helpers.fleets import card


def _model(name: str, **changes: Any) -> dict[str, Any]:
    return {**card(name).model_dump(mode="json"), **changes}


def _worker(*models: dict[str, Any], **changes: Any) -> bytes:
    told = {"worker": "w", "hostname": "h", "pid": 1, "device": "cpu", "state": "ready", "models": list(models)}
    return json.dumps({**told, **changes}).encode()


NEWER = _model("newer", operations=["embed", "segment"], kinds=["dense", "hologram"], colour="blue")
STRANGE = _model("strange", model_type="oracle")


def test_what_only_another_version_knows_is_left_out_of_a_models_card() -> None:
    shown = {name.encode(): json.dumps(model).encode() for name, model in (("newer", NEWER), ("ours", _model("ours")))}

    with capture_logs() as logs:
        found = Cards().models(shown)

    assert found["newer"].operations == ["embed"]
    assert found["newer"].kinds == ["dense"]
    assert found["ours"] == card("ours")
    assert logs == []


@pytest.mark.parametrize("value", [json.dumps(STRANGE).encode(), b"no json", b"{}", b"7", b"\xff"])
def test_a_models_card_that_cannot_be_read_hides_no_other_and_is_told_of_once(value: bytes) -> None:
    cards, shown = Cards(), {b"strange": value, b"\xff": value, b"ours": json.dumps(_model("ours")).encode()}

    with capture_logs() as logs:
        looks = [cards.models(shown) for _ in range(3)]

    assert looks == [{"ours": card("ours")}] * 3
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("model_card_unreadable", "warning")] * 2
    assert all(entry["error"] for entry in logs)


def test_it_is_told_of_again_when_it_could_be_read_in_between() -> None:
    cards = Cards()

    with capture_logs() as logs:
        for value in (b"{}", json.dumps(_model("m")).encode(), b"{}", b"{}"):
            cards.models({b"m": value})

    assert len(logs) == 2


def test_a_worker_serves_those_of_its_models_that_are_understood() -> None:
    cards, shown = Cards(), [("w", _worker(STRANGE, NEWER, _model("ours"))), ("gone", None)]

    with capture_logs() as logs:
        looks = [cards.workers(shown) for _ in range(3)]

    assert [model.name for model in looks[-1]["w"].models] == ["newer", "ours"]
    assert list(looks[-1]) == ["w"]
    assert len(logs) == 1
    assert "model_type" in logs[0]["error"]


@pytest.mark.parametrize("value", [_worker(state="dreaming"), b"no json", b"[]", b"{}", b'{"models": 7}'])
def test_a_workers_card_that_cannot_be_read_hides_no_other(value: bytes) -> None:
    with capture_logs() as logs:
        found = Cards().workers([("strange", value), ("w", _worker(_model("ours")))])

    assert list(found) == ["w"]
    assert [entry["event"] for entry in logs] == ["worker_card_unreadable"]


def test_what_a_process_of_another_version_says_of_its_backlog_counts_as_far_as_it_is_understood() -> None:
    here = Backlog("gw-here")
    newer = {
        "at": 1000.0,
        "waiting": [["m", "urgent", 4, 1, 10], ["m", "bulk", 4, 1, 10, "more"]],
        "lanes": [["m", "urgent", 1, 0.5, []], ["m", "bulk", 1, 0.5, [], "more"]],
    }
    said = {b"gw-newer": orjson.dumps(newer), b"gw-strange": b'{"at": "noon"}', b"gw-odd": b"[]", b"\xff": b"{}"}

    with capture_logs() as logs:
        silent = [here.hear(said, 1001.0) for _ in range(2)]

    assert here.total("m", Lane.BULK) == 10
    assert here.waits.of("m", Lane.BULK).waiting == 1
    assert silent == [[], []]
    assert [entry["event"] for entry in logs] == ["backlog_unreadable"] * 3
