"""pyarrow, where it is needed: it belongs to an extra."""

from typing import Any

from millrace.ingest.problems import InputProblem


def arrow(name: str) -> tuple[Any, Any]:
    """`pyarrow` and `pyarrow.parquet`.

    Args:
        name: The file that needs them.

    Raises:
        InputProblem: They are not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as err:
        raise InputProblem(f"{name}: Parquet needs pyarrow, which comes with the extra millrace[ingest]") from err
    return pa, pq
