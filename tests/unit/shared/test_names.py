"""Names that operators, Celery and KEDA rely on: queues, tasks, keys."""

import inspect
import re

from shared import keys
from shared.queues import Lane, Operation, queue_name, task_name


def test_each_model_has_a_queue_per_lane() -> None:
    assert queue_name("org/model", Lane.INTERACTIVE) == "millrace.org/model.interactive"
    assert queue_name("org/model", Lane.BULK) == "millrace.org/model.bulk"


def test_interactive_is_the_first_lane() -> None:
    # BRPOP looks at its keys in order, and the worker declares them in this one
    assert next(iter(Lane)) is Lane.INTERACTIVE


def test_tasks_are_named_by_their_operation() -> None:
    assert {task_name(operation) for operation in Operation} == {
        "millrace.embed",
        "millrace.rerank",
        "millrace.classify",
        "millrace.tokenize",
        "millrace.decode",
    }


def test_the_result_key_is_the_one_of_celerys_backend() -> None:
    assert keys.result("gw-1") == "celery-task-meta-gw-1"


def test_a_gateways_pattern_covers_its_own_tasks_and_no_longer_named_gateways() -> None:
    assert keys.result_pattern("gw1") == "celery-task-meta-gw1-*"


def test_the_key_that_the_scripts_build_is_the_one_that_the_worker_writes() -> None:
    assert keys.unacked("w@host-1") == f"{keys.UNACKED_PREFIX}w@host-1"


def test_no_key_is_a_prefix_of_another_kind_of_key() -> None:
    prefixes = [keys.UNACKED_PREFIX, keys.unacked_index(""), keys.DELIVERIES_PREFIX, keys.worker_card("")]

    for one in prefixes:
        assert not any(other.startswith(one) for other in prefixes if other != one)


def test_every_key_is_a_row_of_the_table_with_a_lifetime_and_a_writer() -> None:
    # Given the table in the module's docstring
    rows = [line.strip("| ").split(" | ") for line in (keys.__doc__ or "").splitlines() if line.startswith("| `")]
    names = {re.sub(r"<\w+>", "X", row[0].strip("`")) for row in rows}

    # Then it has every key that the module can make, and no other
    not_written = {keys.result_pattern, keys.unacked_index}
    functions = [f for _, f in inspect.getmembers(keys, inspect.isfunction) if f not in not_written]
    made = {function(*["X"] * len(inspect.signature(function).parameters)) for function in functions}
    named = {name: value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)}
    fixed = {value for name, value in named.items() if not name.endswith("_PREFIX")}
    constants = {*fixed, f"{keys.DELIVERIES_PREFIX}X", f"{keys.LIMITS_PREFIX}:X"}
    assert names == made | constants
    for row in rows:
        assert len(row) == 5
        assert all(cell.strip() for cell in row), row[0]
