"""The deployment at a glance: faults are sentences that say what they mean, and only operators see them."""

from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from api.admission import Admission
from api.app import create_app
from api.backlog import Backlog
from api.catalog import Catalog
from api.settings import ApiSettings
from api.status import LaneStatus, ModelStatus, Parts, Status, WorkerStatus, problems
from api.status import _model as _shown
from shared.model_config import ModelConfig
from shared.queues import Lane
from tests.helpers.fleets import card, config, fleet_of
from tests.helpers.keys_files import tenant, write_keys_file

PATH = "/v1/status"


def _status(**fields: Any) -> Status:
    defaults: dict[str, Any] = {
        "version": "1",
        "unix": 0.0,
        "problems": [],
        "redis": True,
        "lost_workers": 0,
        "parts": Parts(gateways=1, job_runners=1, callback_workers=1),
        "active_jobs": 0,
        "queued_callbacks": 0,
        "models": [],
        "workers": [],
    }
    return Status(**{**defaults, **fields})


def _model(name: str, *, ready: bool, sleeping: bool = False) -> ModelStatus:
    lane = LaneStatus(
        lane=Lane.BULK,
        queued_tasks=0,
        waiting_requests=0,
        oldest_s=0,
        backlog_s=0,
        answered_per_s=0,
        p50_ms=None,
        p95_ms=None,
    )
    return ModelStatus(
        name=name,
        aliases=[],
        ready=ready,
        sleeping=sleeping,
        model_type=None,
        operations=[],
        kinds=[],
        dimensions=None,
        max_tokens=None,
        workers=0,
        tokens_per_s=0,
        lanes=[lane],
    )


def _worker(state: Any, *models: str) -> WorkerStatus:
    cards: Any = [{"name": name, "dtype": "float32", "tokens_per_s": 1.0, "max_batch_tokens": 1} for name in models]
    return WorkerStatus(worker="w1", hostname="h", pid=1, device="cpu", state=state, version="1", models=cards)


def test_where_all_is_well_nothing_is_said() -> None:
    assert problems(_status(models=[_model("m", ready=True)], workers=[_worker("ready", "m")]), leaving=False) == []


def test_a_model_without_a_worker_is_told_with_what_becomes_of_requests() -> None:
    (told,) = problems(_status(models=[_model("m", ready=False)]), leaving=False)

    assert told == "No worker runs m: requests for it wait until their deadline."


def test_a_model_that_sleeps_is_no_trouble() -> None:
    assert problems(_status(models=[_model("m", ready=False, sleeping=True)]), leaving=False) == []


def test_a_model_that_is_known_from_a_worker_that_has_gone_is_not_ready() -> None:
    # Given a gateway that remembers what the model was
    models = [config("m"), ModelConfig(name="sleeper", source="org/sleeper", cold_start_s=60)]
    fleet = fleet_of()
    fleet.known = {"m": card("m"), "sleeper": card("sleeper")}
    catalog, backlog = Catalog(models, fleet), Backlog("gw")
    admission = Admission(fleet, backlog, max_pending_items=1)

    # Then both are told as what they are, and neither as ready
    shown = [_shown(one, catalog, fleet, admission, backlog, {}) for one in models]
    assert [(one.ready, one.sleeping, one.model_type) for one in shown] == [
        (False, False, "embedding"),
        (False, True, "embedding"),
    ]


def test_a_wedged_worker_is_named_and_so_is_what_it_should_serve() -> None:
    status = _status(models=[_model("m", ready=False)], workers=[_worker("wedged", "m")])

    told = problems(status, leaving=False)

    assert told[0].startswith("Worker w1 is wedged: work waits and nothing moves.")
    assert told[1].startswith("The workers of m are wedged:")


def test_while_redis_is_away_nothing_else_is_said_to_be_known() -> None:
    told = problems(_status(redis=False, models=[_model("m", ready=False)]), leaving=True)

    assert [sentence.split(":")[0] for sentence in told] == [
        "This gateway has been told to stop; it still answers for a while.",
        "Redis cannot be reached",
    ]


def test_bulk_work_that_nobody_does_is_told_with_the_command_that_starts_somebody() -> None:
    parts = Parts(gateways=1, job_runners=0, callback_workers=0)

    told = problems(_status(parts=parts, active_jobs=1, queued_callbacks=2), leaving=False)

    assert told == [
        "1 bulk job waits and no job runner: start `millrace jobs`.",
        "2 callbacks wait and no callback worker: start `millrace worker --callbacks`.",
    ]
    assert problems(_status(parts=parts), leaving=False) == []


def test_a_gateway_without_redis_says_so_and_what_it_should_serve() -> None:
    told = TestClient(create_app(ApiSettings(access_log=False))).get(PATH)

    status = Status.model_validate(told.json())
    assert told.status_code == 200
    assert (status.redis, status.parts.gateways, status.active_jobs) == (False, 1, None)
    assert [model.name for model in status.models] == ["sentence-transformers/all-MiniLM-L6-v2"]
    assert [lane.queued_tasks for lane in status.models[0].lanes] == [None, None]
    assert "Redis cannot be reached" in status.problems[0]


def test_it_is_for_operators_where_keys_are_asked_for(tmp_path: Path) -> None:
    tenants = [tenant("team", "team-key"), tenant("ops", "ops-key", routes=["admin"])]
    keys_file = write_keys_file(tmp_path / "keys.yaml", *tenants)
    client = TestClient(create_app(ApiSettings(keys_file=keys_file, access_log=False)))

    statuses = [
        client.get(PATH, headers=headers).status_code
        for headers in ({}, {"authorization": "Bearer team-key"}, {"authorization": "Bearer ops-key"})
    ]

    assert statuses == [401, 403, 200]
