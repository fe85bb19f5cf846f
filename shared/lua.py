"""Lua scripts: what has to happen in Redis in one step. Each is a file beside the module that calls it."""

from pathlib import Path


def script(name: str) -> str:
    """Text of a script.

    Args:
        name: Its path below this package, without `.lua`.
    """
    return (Path(__file__).parent / f"{name}.lua").read_text()
