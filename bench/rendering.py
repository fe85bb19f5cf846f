"""`python -m bench.rendering`: what an answer of vectors costs to make, beside FastAPI's default for the same data."""

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from fastapi.encoders import jsonable_encoder
from starlette.responses import JSONResponse

from api import embeddings, wire
from api.dialect import Answer
from api.dialects import openai
from bench import machine
from shared.results import Output


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.rendering", description=__doc__)
    parser.add_argument("--vectors", type=int, default=32)
    parser.add_argument("--dimensions", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=101)
    arguments = parser.parse_args()
    vectors = np.random.default_rng(0).standard_normal((arguments.vectors, arguments.dimensions)).astype("<f4")
    output = Output(shape=vectors.shape, data=vectors.tobytes(), tokens=100)
    answer = Answer(request_id="r", model="m", outputs=[output], seconds=0.01)
    route = next(route for route in openai.PLUGIN.routes if "/v1/embeddings" in route.paths)

    def ours(encoding: str) -> Callable[[], bytes]:
        body = route.body.model_validate({"input": ["a"], "encoding_format": encoding})
        return lambda: wire.dumps(route.render(body, answer))

    contenders: dict[str, Callable[[], bytes]] = {
        "base64": ours("base64"),
        "JSON floats": ours("float"),
        "FastAPI's default": lambda: _default(vectors),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(arguments.rounds):
        for name in list(contenders)[:: 1 if number % 2 == 0 else -1]:
            if name.startswith("FastAPI") and number % 10:
                continue  # it takes as long as all the others together
            started = time.perf_counter()
            contenders[name]()
            seconds[name].append(time.perf_counter() - started)
    where = machine.facts()
    print(f"{where['date']}, {where['cpu']}: {arguments.vectors} vectors of {arguments.dimensions} dimensions, medians")
    for name, taken in seconds.items():
        size = len(contenders[name]())
        print(f"{name:20}{median(taken) * 1e3:10.2f} ms{size / 1024:12,.0f} KiB")
    return 0


def _default(vectors: "np.ndarray[Any, Any]") -> bytes:
    """A route that returns pydantic models: numpy to lists, validation, encoding, JSON."""
    entries = [embeddings.Embedding(index=index, embedding=row.tolist()) for index, row in enumerate(vectors)]
    usage = wire.Usage(prompt_tokens=100, total_tokens=100)
    response = embeddings.EmbeddingsResponse(id="embd-0", created=0, data=entries, model="m", usage=usage)
    return bytes(JSONResponse(jsonable_encoder(response)).body)


if __name__ == "__main__":
    sys.exit(main())
