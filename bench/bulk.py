"""`python -m bench.bulk`: a million documents through `/v1/ingest` with the null engine, and every process's memory.

What is measured is everything but the model: receiving, storing, queueing, tokenising, results. The documents are made while
they are sent; at the end the results are read and each document is accounted for.
"""

import argparse
import http.client
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from bench import machine, saved
from bench.bulk_job import submit
from bench.services import BenchFailed, Stack, get_json, running_stack

#: Memory is compared with what it was here.
_SETTLED_AT = 100_000
_POLL_S = 1.0


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.bulk", description="Many documents, flat memory.")
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    where = machine.facts()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder,
            running_stack(Path(folder) / "stack", engine="bench.null_engine", jobs=True) as stack,
        ):
            stack.wait_ready()
            found = _measure(stack, arguments.documents)
    except BenchFailed as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    path = saved.path_for(arguments.json, "bulk-")
    saved.save({"machine": where, **found}, path)
    print(_table(found, where))
    print(f"written to {path}", file=sys.stderr)
    return 0


def _measure(stack: Stack, documents: int) -> dict[str, Any]:
    started = time.monotonic()
    with ThreadPoolExecutor(1) as uploading:
        upload = uploading.submit(submit, stack.port, documents)
        samples, status = _watch(stack, started)
        job = upload.result()
    seconds = time.monotonic() - started
    done = samples[-1]["done"]
    if status["status"] != "completed" or done != documents:
        raise BenchFailed(f"the job ended as {status['status']} with {done:,} of {documents:,}: {status['errors']}")
    print(f"[{seconds:5.0f} s] all done; reading the results", file=sys.stderr)
    read_at = time.monotonic()
    read = _read_results(stack.port, job, documents)
    after = stack.memory_mb()
    settled = next((sample for sample in samples if sample["done"] >= min(_SETTLED_AT, documents // 10)), samples[0])
    return {
        "documents": documents,
        "received_s": next(sample["seconds"] for sample in samples if sample["received"] == documents),
        "seconds": round(seconds, 1),
        "documents_per_s": round(documents / seconds),
        "results_read_per_s": round(read / (time.monotonic() - read_at)),
        "memory_settled_mb": settled["memory_mb"],
        "memory_most_mb": {
            name: max(sample["memory_mb"][name] for sample in samples if sample["done"] >= settled["done"])
            for name in settled["memory_mb"]
        },
        "memory_after_reading_mb": after,
        "samples": samples,
    }


def _watch(stack: Stack, started: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Memory and progress until the job has ended, and how it did."""
    samples: list[dict[str, Any]] = []
    while True:
        time.sleep(_POLL_S)
        jobs = get_json(stack.port, "/v1/jobs?limit=1")["data"]
        if not jobs:
            continue
        (status,) = jobs
        counts = status["counts"]
        memory = stack.memory_mb()
        sample = {"seconds": round(time.monotonic() - started, 1), "received": counts["received"]}
        samples.append({**sample, "done": counts["completed"] + counts["failed"], "memory_mb": memory})
        if status["status"] in ("completed", "failed", "cancelled", "expired"):
            return samples, status


def _read_results(port: int, job: str, documents: int) -> int:
    """Read all results, and see that each document is there once, in its place."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("GET", f"/v1/jobs/{job}/results?encoding=base64")
    response = connection.getresponse()
    expected = 0
    for line in response:
        entry = orjson.loads(line)
        if entry["index"] != expected or entry["id"] != expected or "embedding" not in entry:
            raise BenchFailed(f"line {expected} of the results is {line[:200]!r}")
        expected += 1
    connection.close()
    if expected != documents:
        raise BenchFailed(f"{expected:,} results came of {documents:,} documents")
    return expected


def _table(found: dict[str, Any], where: dict[str, Any]) -> str:
    lines = [
        f"{found['documents']:,} documents through /v1/ingest, null engine, {where['date']}, {where['cpu']}, "
        f"{where['cores']} cores",
        f"received in {found['received_s']:,} s, done in {found['seconds']:,} s: {found['documents_per_s']:,} documents/s; "
        f"results read at {found['results_read_per_s']:,} documents/s",
        "",
        f"{'resident memory, MB':22}{'settled':>10}{'most':>10}{'growth':>10}{'after reading':>15}",
    ]
    for name, settled in found["memory_settled_mb"].items():
        most, after = found["memory_most_mb"][name], found["memory_after_reading_mb"][name]
        lines.append(f"{name:22}{settled:10,.0f}{most:10,.0f}{most - settled:10,.0f}{after:15,.0f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
