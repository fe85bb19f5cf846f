"""`python -m bench.engine`: tokens and texts per second of the engine and its peers, in one run.

Texts of one length and of a realistic mix by an embedding model; one query against 100 passages of that mix by a reranker.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import machine, saved
from bench.child import Child
from bench.engine import folders
from bench.services import BenchFailed
from shared.model_config import DEFAULT_MODEL
from workers.weights import local_folder

_CONTENDERS = ("transformers", "sentence_transformers", "infinity", "millrace")

Rows = dict[str, list[dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Shape:
    """Texts of one pass."""

    #: One of `bench.texts.KINDS`.
    kind: str
    #: So many that a pass takes a CPU about a second.
    count: int
    #: Whether they are documents of a query instead of texts to embed.
    rerank: bool = False


_SHAPES = {
    "16": Shape("16", 512),
    "128": Shape("128", 96),
    "256": Shape("256", 48),
    "512": Shape("512", 24),
    "mix": Shape("mix", 128),
    "rerank": Shape("mix", 100, rerank=True),
}


def main() -> int:
    """Entry point."""
    arguments = _parser().parse_args()
    shapes = {name: _SHAPES[name] for name in arguments.only or _SHAPES}
    default = local_folder(DEFAULT_MODEL)
    where = machine.facts() | {
        "model": arguments.model.name if arguments.model else DEFAULT_MODEL.name,
        "reranker": arguments.reranker.name if arguments.reranker else f"{DEFAULT_MODEL.name}'s shape, random weights",
        "dtype": arguments.dtype,
        "rounds": arguments.rounds,
    }
    embedding = {name: shape for name, shape in shapes.items() if not shape.rerank}
    reranking = {name: shape for name, shape in shapes.items() if shape.rerank}
    rows: Rows = {}
    others = machine.OtherLoad()
    try:
        with tempfile.TemporaryDirectory(prefix="millrace-bench-") as made:
            if embedding:
                folder = folders.reading_longest(arguments.model or default, Path(made) / "embedding")
                rows |= _contest("reference", "embed", folder, embedding, arguments, where)
            if reranking:
                folder = arguments.reranker or folders.cross_encoder(default, Path(made) / "reranker")
                rows |= _contest("reranking", "rerank", folder, reranking, arguments, where)
    except BenchFailed as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    where["other_load_cores"] = round(others.cores_since(), 2)
    path = saved.path_for(arguments.json, "engine-")
    saved.save({"machine": where, "rows": rows}, path)
    print(_table(rows, where, shapes, arguments.scale))
    print(f"written to {path}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of an embedding model; the default model when absent")
    parser.add_argument(
        "--reranker", type=Path, help="folder of a cross-encoder; the default model's shape when absent"
    )
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--infinity", metavar="PYTHON", help="interpreter that has infinity_emb; left out when absent")
    parser.add_argument("--only", nargs="+", metavar="SHAPE", choices=tuple(_SHAPES), help=f"of {', '.join(_SHAPES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of texts in a pass")
    parser.add_argument("--json", type=Path)
    return parser


def _contest(
    libraries: str,
    command: str,
    folder: Path,
    shapes: Mapping[str, Shape],
    arguments: argparse.Namespace,
    where: dict[str, Any],
) -> Rows:
    """Start the contenders on one folder and measure them; notes the ceiling in `where`.

    Args:
        libraries: Module of the process that has transformers and sentence-transformers.
        command: What Infinity and Millrace are asked to do.
        folder: The model's.
        shapes: What is measured.
        arguments: The command line.
        where: What is known of the run.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as logs, ExitStack() as stack:

        def child(module: str, **options: Any) -> Child:
            log = Path(logs) / f"{module}.log"
            words = [str(folder), arguments.dtype]
            return stack.enter_context(Child(f"bench.engine.{module}", log, arguments=words, **options))

        peers, ours = child(libraries), child("ours")
        commands = {
            "transformers": (peers, "transformers"),
            "sentence_transformers": (peers, "sentence_transformers"),
            "millrace": (ours, command),
        }
        if arguments.infinity:
            commands["infinity"] = (child("infinity", python=arguments.infinity), command)
        rows = _measure(commands, shapes, arguments.rounds, arguments.scale)
        where["ceiling_flops"] = max(ours.ask("ceiling", dtype=arguments.dtype), where.get("ceiling_flops", 0.0))
        return rows


def _measure(commands: Mapping[str, tuple[Child, str]], shapes: Mapping[str, Shape], rounds: int, scale: float) -> Rows:
    """Every contender sees each shape in turn, in an order that changes with the rounds."""
    rows: Rows = defaultdict(list)
    names = [name for name in _CONTENDERS if name in commands]
    for number in range(rounds):
        for shape_name, shape in shapes.items():
            for name in names if number % 2 == 0 else reversed(names):
                process, command = commands[name]
                measured = process.ask(command, kind=shape.kind, count=round(shape.count * scale))
                rows[f"{shape_name}/{name}"].append(measured)
    return rows


def _table(rows: Rows, where: Mapping[str, Any], shapes: Mapping[str, Shape], scale: float) -> str:
    ceiling = where["ceiling_flops"]
    lines = [
        f"The engine alone, {where['date']}, {where['cpu']}, {where['cores']} cores, {where['dtype']}, "
        f"medians over {where['rounds']} interleaved rounds",
        f"ceiling: {ceiling / 1e9:,.0f} GFLOP/s in a plain matrix product; others used {where['other_load_cores']} cores",
        "",
        f"{'tokens':8}{'':24}{'texts/s':>10}{'tokens/s':>12}{'of ceiling':>12}{'padding':>10}{'ours is':>10}",
    ]
    for shape_name, shape in shapes.items():
        ours = rows[f"{shape_name}/millrace"]
        tokens, work = ours[0]["tokens"], ours[0]["flops"]
        for name in _CONTENDERS:
            measured = rows.get(f"{shape_name}/{name}")
            if not measured:
                continue
            seconds = median(row["seconds"] for row in measured)
            ratio = median(theirs["seconds"] / mine["seconds"] for theirs, mine in zip(measured, ours, strict=True))
            padding = (
                f"{measured[0]['padding']:.0%}" if "padding" in measured[0] else ("0%" if measured is ours else "")
            )
            lines.append(
                f"{shape_name:8}{name:24}{round(shape.count * scale) / seconds:10,.0f}{tokens / seconds:12,.0f}"
                f"{work / seconds / ceiling:12.0%}{padding:>10}{ratio:9.2f}x"
            )
        stage = median(row["tokenization_s"] / row["seconds"] for row in ours)
        lines.append(f"{'':8}tokenising takes {stage:.1%} of our time")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
