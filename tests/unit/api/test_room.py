"""Room for large bodies and answers."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from api.room import Room
from shared.errors import Overloaded

LONG_S, SHORT_S = 10.0, 0.01


def run(body: Callable[[Room], Awaitable[None]], size: int = 10) -> None:
    """Run something with a room."""

    async def begin() -> None:
        await body(Room(size, "letters"))

    asyncio.run(begin())


def test_who_comes_first_is_let_in_first_though_a_later_one_would_fit() -> None:
    async def body(room: Room) -> None:
        came: list[str] = []

        async def visit(name: str, size: int) -> None:
            await room.take(size, LONG_S)
            came.append(name)

        first = await room.take(6, LONG_S)
        large, small = asyncio.create_task(visit("large", 8)), asyncio.create_task(visit("small", 2))
        await asyncio.sleep(0)
        assert came == []

        room.give_back(first)
        await asyncio.gather(large, small)

        assert came == ["large", "small"]
        assert room.taken == 10

    run(body)


def test_what_is_larger_than_all_of_it_is_let_in_alone() -> None:
    async def body(room: Room) -> None:
        taken = await room.take(1000, LONG_S)
        with pytest.raises(Overloaded, match="letters"):
            await room.take(1, SHORT_S)

        room.give_back(taken)

        assert await room.take(1, SHORT_S) == 1

    run(body)


def test_who_waits_in_vain_or_leaves_holds_up_nobody_behind() -> None:
    async def body(room: Room) -> None:
        await room.take(6, LONG_S)
        impatient = asyncio.create_task(room.take(9, SHORT_S))
        leaving = asyncio.create_task(room.take(9, LONG_S))
        behind = asyncio.create_task(room.take(4, LONG_S))
        await asyncio.sleep(0)

        leaving.cancel()

        assert await behind == 4
        assert isinstance((await asyncio.gather(impatient, return_exceptions=True))[0], Overloaded)
        assert room.taken == 10

    run(body)


def test_who_leaves_just_when_there_is_room_gives_it_back() -> None:
    async def body(room: Room) -> None:
        taken = await room.take(10, LONG_S)
        leaving = asyncio.create_task(room.take(10, LONG_S))
        await asyncio.sleep(0)

        room.give_back(taken)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)

        assert room.taken == 0

    run(body)
