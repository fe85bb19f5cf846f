"""The page of clients: what a user pastes, taken from the files that the conformance suite runs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.client_files import ClientFile, client_files, pasted

_PAGE = Path(__file__).parent / "clients.md"
_INTRODUCTION = """<!-- Written by `make docs` from tests/conformance/clients. Change the client's file, not this page. -->

# Clients

One address serves them all: `http://127.0.0.1:8080` stands for it, `all-MiniLM-L6-v2` for the model. Any key is
accepted where none is asked for; where [keys](howto/access.md) are, put yours in the place of `unused`.
`texts` and `documents` are lists of strings, `top_n` is how many documents shall come back.

Every line here is taken from a file in `tests/conformance/clients/`, and `make conformance` runs them against the real
service: one item, many, `top_n`, several scripts, an over-long input, a wrong model, the right key, a wrong one and none, a
full service (429) and one that lost its queue (503), both with `Retry-After`. Vectors and scores are compared with
sentence-transformers' own.
Where it says recorded, it is not the product that runs: its requests are sent as its source sends them, and the answers are
read as strictly.
"""

_ADD_ONE = """## Add a client

Write `tests/conformance/clients/<name>.py`: `PACKAGES` names what it needs in which environment; a function for each way of
using it gets `@embeds` or `@reranks`; the comments `# pasted as "..."` and `# end` enclose what a user pastes. Then run
`make conformance-pins`, `make docs` and `make conformance`. Packages that contradict the others go into an environment of
another name, which is all that it takes. Of a product that is no package, write down its requests and `SETTINGS`.
"""


def clients() -> str:
    """The page of clients."""
    text = "\n".join([_INTRODUCTION, *(part for client in client_files() for part in _section(client)), _ADD_ONE])
    # `make format` formats the code in Markdown too, and what it writes has to be what we write.
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(_PAGE), "-"]
    return subprocess.run(command, input=text, text=True, capture_output=True, check=True).stdout


def _section(client: ClientFile) -> Iterator[str]:
    versions = client.versions()
    tested = f" Tested with {' and '.join(versions)}." if versions else ""
    yield f"## {client.title}\n\n{client.summary[0].upper()}{client.summary[1:]}{tested}\n"
    if client.notes:
        yield f"{client.notes}\n"
    for part in pasted(client):
        if part.title:
            yield f"{part.title}:\n"
        yield f"```{part.language}\n{part.text}\n```\n"
