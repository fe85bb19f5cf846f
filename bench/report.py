"""The table that a run prints, and the JSON that it leaves."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench import plan as plans
from bench.measurement import Measurement, Results, median_of, median_ratio, spread
from bench.plan import Plan
from bench.rounds import http_row, queue_row

#: Cores that others use above which a run is marked: a thread pool of all cores waits for its slowest thread.
_DISTURBING_CORES = 0.15
_THROUGHPUT_HEAD = ("", "texts/s", "spread", "p50 ms", "p99 ms", "client cpu")


def to_json(plan: Plan, where: Mapping[str, Any], results: Results) -> dict[str, Any]:
    """Everything that was measured, each round of it, and the summaries that the table shows."""
    rows = {
        name: {
            "median_texts_per_s": median_of(rounds, "texts_per_s"),
            "rounds": [measured.to_json() for measured in rounds],
        }
        for name, rounds in results.items()
    }
    return {"machine": dict(where), "rounds": plan.rounds, "summary": summary(plan, results), "rows": rows}


def summary(plan: Plan, results: Results) -> dict[str, float]:
    """The ratios and differences; each is taken within a round first."""
    found: dict[str, float] = {}
    reference = best_reference(results)
    if reference:
        for load in plan.http_loads:
            row = http_row("service", load)
            if row in results:
                found[f"{row} over reference"] = median_ratio(results[row], results[reference])
        found["packed over reference"] = median_ratio(results["forward/packed"], results[reference])
    for load in plan.http_loads:
        row, bare = http_row("service", load), http_row("engine", load)
        if bare in results:
            found[f"{row} over engine"] = median_ratio(results[row], results[bare])
    for concurrency in plans.QUEUE_CONCURRENCIES:
        gathered, alone = (queue_row(window, concurrency) for window in plans.QUEUE_WINDOWS)
        if gathered in results:
            found[f"{gathered} over uncoalesced"] = median_ratio(results[gathered], results[alone])
    if "idle/service" in results:
        for name in ("reference", "packed"):
            added = [
                (service.p50_ms or 0.0) - (bare.p50_ms or 0.0)
                for service, bare in zip(results["idle/service"], results[f"idle/{name}"], strict=True)
            ]
            found[f"added p50 ms over {name}"] = sorted(added)[len(added) // 2]
    return found


def best_reference(results: Results) -> str | None:
    """Row of the batch size at which the reference is fastest."""
    rows = [row for size in plans.REFERENCE_BATCH_SIZES if (row := f"forward/reference/{size}") in results]
    return max(rows, key=lambda row: median_of(results[row], "texts_per_s"), default=None)


def table(plan: Plan, where: Mapping[str, Any], results: Results) -> str:
    """The report for people."""
    facts = summary(plan, results)
    sections = [
        _heading(plan, where),
        _forward(results, facts),
        _service(plan, results, facts),
        _queue(results, facts),
        _echo(plan, results),
        _latency(results, facts),
    ]
    return "\n\n".join(section for section in sections if section)


def _heading(plan: Plan, where: Mapping[str, Any]) -> str:
    lines = [f"Millrace benchmark, {where['date']}"]
    lines.append(f"{where['cpu']}, {where['cores']} cores, commit {where['commit'] or 'unknown'}")
    if "model" in where:
        lines.append(
            f"{where['model']}, {where['dtype']} on {where['device']}, {where['threads']} threads, "
            f"texts of {where['tokens_per_text']:.1f} tokens"
        )
    lines.append(
        f"Medians over {plan.rounds} interleaved round{'s' if plan.rounds > 1 else ''}; "
        "spread: highest minus lowest round; all processes share the cores"
    )
    worst = max(where["other_load_cores"])
    if worst > _DISTURBING_CORES:
        lines.append(f"DISTURBED: other processes kept {worst:.1f} cores busy in the worst round; measure again alone")
    return "\n".join(lines)


def _forward(results: Results, facts: Mapping[str, float]) -> str:
    best = best_reference(results)
    if best is None:
        return ""
    rows = []
    for size in plans.REFERENCE_BATCH_SIZES:
        name = f"forward/reference/{size}"
        mark = "  <- the reference" if name == best else ""
        rows.append((f"reference, sorted, batches of {size}", *_forward_cells(results[name]), mark))
    rows.append(
        (
            "Millrace's packed engine, called directly",
            *_forward_cells(results["forward/packed"]),
            f"  {facts['packed over reference']:.2f} x the reference",
        )
    )
    return section("(a) bare forward", ("", "texts/s", "spread", "without tokenising", ""), rows)


def _service(plan: Plan, results: Results, facts: Mapping[str, float]) -> str:
    rows = []
    for load in plan.http_loads:
        name = http_row("service", load)
        if name in results:
            ratios = (facts.get(f"{name} over {bare}") for bare in ("reference", "engine"))
            rows.append(
                (
                    _http_label(load.concurrency, load.texts_per_request),
                    *_cells(results[name]),
                    *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
                )
            )
    title = "(b) service over HTTP: POST /v1/embeddings, base64; closed loop, for throughput only"
    return section(title, (*_THROUGHPUT_HEAD, "of reference", "of engine"), rows)


def _queue(results: Results, facts: Mapping[str, float]) -> str:
    rows = []
    for concurrency in plans.QUEUE_CONCURRENCIES:
        for window in plans.QUEUE_WINDOWS:
            name = queue_row(window, concurrency)
            if name not in results:
                return ""
            ratio = facts[f"{name} over uncoalesced"] if window else None
            label = f"{concurrency:>3} callers, {'coalesced' if window else 'one task per request'}"
            rows.append((label, *_cells(results[name]), "" if ratio is None else f"{ratio:.1f} x"))
    title = "(c) queue path without HTTP, null engine: dispatcher -> Valkey -> worker -> back; closed loop"
    return section(title, (*_THROUGHPUT_HEAD, "with/without"), rows)


def _echo(plan: Plan, results: Results) -> str:
    rows = []
    for load in plan.http_loads:
        name = http_row("echo", load)
        if name in results:
            rows.append((_http_label(load.concurrency, load.texts_per_request), *_cells(results[name])))
    return section("(d) FastAPI echo of the same bodies: the ceiling of HTTP; closed loop", _THROUGHPUT_HEAD, rows)


def _latency(results: Results, facts: Mapping[str, float]) -> str:
    if "idle/service" not in results:
        return ""
    rows = [
        ("bare forward of one text, reference", *_latency_cells(results["idle/reference"])),
        ("bare forward of one text, packed engine", *_latency_cells(results["idle/packed"])),
        ("service, one request at a time", *_latency_cells(results["idle/service"])),
        ("  added over the reference", f"{facts['added p50 ms over reference']:.2f}", ""),
        ("  added over the packed engine", f"{facts['added p50 ms over packed']:.2f}", ""),
    ]
    opened = results["open_loop/service"]
    rows.append(
        (f"open loop, Poisson, {median_of(opened, 'offered_per_s'):.0f} requests/s", *_latency_cells(opened)),
    )
    idle = section("latency, single texts", ("", "p50 ms", "p99 ms"), rows)
    late = [f"{median_of(opened, f'lateness_p{rank}_ms'):.2f} ms at p{rank}" for rank in (50, 99)]
    return (
        f"{idle}\nThe open loop offers {plans.OPEN_LOOP_SHARE:.0%} of the single-text capacity.\n"
        f"Latency counts from when a request was due (the generator itself was late by {' and '.join(late)})."
    )


def _http_label(concurrency: int, texts: int) -> str:
    return f"{concurrency:>3} connections x {texts:>2} text{'s' if texts > 1 else ''}"


def _forward_cells(rounds: Sequence[Measurement]) -> tuple[str, ...]:
    bare = sorted(measured.texts / (measured.forward_s or measured.seconds) for measured in rounds)
    return f"{median_of(rounds, 'texts_per_s'):,.0f}", f"{spread(rounds):.0%}", f"{bare[len(bare) // 2]:,.0f}"


def _cells(rounds: Sequence[Measurement]) -> tuple[str, ...]:
    return (
        f"{median_of(rounds, 'texts_per_s'):,.0f}",
        f"{spread(rounds):.0%}",
        *_latency_cells(rounds),
        f"{median_of(rounds, 'client_cpu'):.0%}",
    )


def _latency_cells(rounds: Sequence[Measurement]) -> tuple[str, str]:
    return f"{median_of(rounds, 'p50_ms'):,.2f}", f"{median_of(rounds, 'p99_ms'):,.2f}"


def section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A titled table, its first column to the left and the others to the right; nothing without rows."""
    if not rows:
        return ""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in (head, *rows)
    ]
    return "\n".join([title, *(line.rstrip() for line in lines)])
