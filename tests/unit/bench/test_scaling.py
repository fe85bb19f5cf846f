"""The simulated service under the chart's triggers, whichever of them are switched on."""

import pytest

from bench.scaling import TRIGGERS, Load, Plant, Simulation, scaled_by

PLANT = Plant(
    tokens_per_s=7600,
    batch_tokens=1024,
    cold_start_s=60,
    gateways=2,
    tasks_in_flight_per_worker=8,
    timeout_s=30,
    cold_start_budget_s=180,
)
#: A request of a tenth of a batch once a minute: a worker has it done before anybody looks.
SELDOM = Load("seldom", 3600, lambda _: PLANT.batch_tokens / 10 / 60 / PLANT.tokens_per_s)
#: Two workers' work for half an hour, and nothing for as long as it takes to go to zero.
BUSY = Load("busy", 4200, lambda at: 2.0 if at < 1800 else 0.0)


@pytest.mark.parametrize("triggers", TRIGGERS)
def test_a_pool_that_is_asked_every_minute_does_not_sleep(triggers: str) -> None:
    run = Simulation(scaled_by(triggers, {}), PLANT, SELDOM).run(triggers)

    awake_from = next(index for index, replicas in enumerate(run.replicas) if replicas)
    assert set(run.replicas[awake_from:]) == {1}


@pytest.mark.parametrize("triggers", TRIGGERS)
def test_a_pool_grows_with_its_work_and_sleeps_after_it(triggers: str) -> None:
    run = Simulation(scaled_by(triggers, {}), PLANT, BUSY).run(triggers)

    assert max(run.replicas) >= 2
    assert run.replicas[-1] == 0
    assert run.refused < 0.01
