"""`python -m bench.echo PORT`: FastAPI that answers with the body it was sent, on the gateway's own uvicorn settings.

What it reaches is the ceiling for any gateway of one Python process with this HTTP stack.
"""

import sys

import uvicorn
from fastapi import FastAPI, Request, Response


def create_echo() -> FastAPI:
    """The application."""
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/json")

    return app


def main() -> None:
    """Serve as `api/__main__.py` does."""
    uvicorn.run(
        create_echo(),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_config=None,
        access_log=False,
        loop="uvloop",
        http="httptools",
        timeout_keep_alive=75,
        backlog=4096,
    )


if __name__ == "__main__":
    main()
