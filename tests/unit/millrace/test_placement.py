"""Placement: every model where it is wanted, no device overfull, and one sentence when that cannot be."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from millrace.placement import Wanted, plan
from shared.model_config import ConfigurationError

GIB = 1 << 30

DEVICES = st.lists(st.none() | st.integers(1, 80), min_size=1, max_size=6).map(
    lambda sizes: {f"gpu-{n}": None if size is None else size * GIB for n, size in enumerate(sizes)}
)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Wanted], dict[str, int | None]]:
    """Devices, and models of every placement, whose needs differ by device as number formats do."""
    free = draw(DEVICES)
    models = []
    for number in range(draw(st.integers(0, 6))):
        placement = draw(st.sampled_from(["replicate", "spread", "pin"]))
        allowed = draw(st.sets(st.sampled_from(sorted(free)), min_size=1)) if placement == "pin" else free
        size = draw(st.integers(1, 30))
        needs = {device: size * GIB * draw(st.sampled_from([1, 2])) for device in sorted(allowed)}
        models.append(Wanted(f"m{number}", placement, needs))
    return models, free


def _planned(models: list[Wanted], free: dict[str, int | None]) -> dict[str, list[str]]:
    try:
        return plan(models, free)
    except ConfigurationError:
        assume(False)
        raise


def _refusal(models: list[Wanted], free: dict[str, int | None]) -> str:
    """Why these cannot be placed; nothing if they can."""
    try:
        plan(models, free)
    except ConfigurationError as err:
        return str(err)
    return ""


@given(fleets())
def test_no_device_has_more_than_fits(fleet: tuple[list[Wanted], dict[str, int | None]]) -> None:
    models, free = fleet
    needs = {model.name: model.needs for model in models}

    for device, names in _planned(models, free).items():
        if (room := free[device]) is not None:
            assert sum(needs[name][device] for name in names) <= room


@given(fleets())
def test_every_model_is_where_it_was_wanted(fleet: tuple[list[Wanted], dict[str, int | None]]) -> None:
    models, free = fleet

    placed = _planned(models, free)

    assert list(placed) == list(free)
    for model in models:
        having = {device for device, names in placed.items() if model.name in names}
        if model.placement == "spread":
            assert len(having) == 1
        assert having <= set(model.needs)
        assert model.placement == "spread" or having == set(model.needs)
    # and each device has its models once, in the order in which they were declared
    order = [model.name for model in models]
    assert all(names == [name for name in order if name in names] for names in placed.values())


@given(fleets())
def test_what_is_refused_is_named_with_what_is_free(fleet: tuple[list[Wanted], dict[str, int | None]]) -> None:
    models, free = fleet

    refusal = _refusal(models, free)

    assume(refusal)
    assert refusal.split()[1] in {model.name for model in models}
    assert "GiB free" in refusal
    assert "\n" not in refusal


@given(DEVICES, st.integers(1, 12), st.integers(1, 3))
def test_models_of_one_size_are_refused_only_if_no_device_has_room(
    free: dict[str, int | None], count: int, size: int
) -> None:
    # Given how many fit at most
    most = sum(count if room is None else room // (size * GIB) for room in free.values())
    models = [Wanted(f"m{n}", "spread", dict.fromkeys(free, size * GIB)) for n in range(count)]

    # Then
    if count <= most:
        assert sum(map(len, plan(models, free).values())) == count
    else:
        with pytest.raises(ConfigurationError):
            plan(models, free)


def test_models_that_are_spread_share_the_devices_out() -> None:
    free: dict[str, int | None] = dict.fromkeys(["gpu-0", "gpu-1", "gpu-2"], 24 * GIB)
    sizes = {"small": 1, "large": 16, "medium": 8, "tiny": 1}
    models = [Wanted(name, "spread", dict.fromkeys(free, size * GIB)) for name, size in sizes.items()]

    assert plan(models, free) == {"gpu-0": ["large"], "gpu-1": ["medium"], "gpu-2": ["small", "tiny"]}


def test_where_memory_is_not_counted_models_are_shared_out_by_number() -> None:
    free: dict[str, int | None] = {"gpu-0": None, "gpu-1": None}
    models = [Wanted(f"m{n}", "spread", dict.fromkeys(free, 0)) for n in range(4)]

    assert plan(models, free) == {"gpu-0": ["m0", "m2"], "gpu-1": ["m1", "m3"]}


def test_a_model_that_fits_nowhere_is_refused_in_a_clear_sentence() -> None:
    free: dict[str, int | None] = {"gpu-0": 16 * GIB, "gpu-1": 24 * GIB}
    embedder = Wanted("embedder", "replicate", dict.fromkeys(free, 3 * GIB))

    def told(placement: str, size: int) -> str:
        large = Wanted("large", placement, dict.fromkeys(free, size * GIB))  # type: ignore[arg-type]
        return _refusal([embedder, large], free)

    assert told("replicate", 15) == (
        "model large needs 15.0 GiB on gpu-0, and gpu-0 has 13.0 GiB free beside embedder: `placement: spread` puts it on "
        "one device only, MILLRACE_DEVICE leaves devices out; `memory_gib` in the models file overrules the estimate"
    )
    assert told("spread", 22) == (
        "model large needs 22.0 GiB on one device, and gpu-0 has 13.0 GiB free beside embedder; gpu-1 has 21.0 GiB free "
        "beside embedder: serve fewer models, or `placement: pin` others together; `memory_gib` in the models file "
        "overrules the estimate"
    )
    assert "on gpu-0, and gpu-0 has 13.0 GiB free beside embedder: pin it to another device" in told("pin", 15)
