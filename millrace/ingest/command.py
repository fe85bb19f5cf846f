"""The arguments of `millrace ingest`."""

import argparse
import os
from typing import Any

from millrace.ingest.readers import READERS
from millrace.ingest.write_npy import DTYPES
from millrace.keys import first_key

DEFAULT_URL = "http://127.0.0.1:8080"

_EXIT_STATUSES = """\
A document is {"id", "text", "metadata"}: a line of NDJSON, a row of CSV or Parquet, a text file or a piece of one.
Ctrl-C leaves the job running and says how to resume.

exit status: 0 every document has its vectors; 3 some have errors instead, which stand in the output;
1 the job or the service failed; 2 wrong options or input; 130 interrupted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command understands."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXIT_STATUSES
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="NDJSON, CSV, TSV, Parquet or text, also .gz; a folder of text; - for stdin",
    )
    parser.add_argument("--url", default=DEFAULT_URL, help="the gateway (default: %(default)s)")
    parser.add_argument("--api-key", help="sent as a bearer token (default: MILLRACE_API_KEY)")

    reading = parser.add_argument_group("what is read")
    reading.add_argument("--format", choices=READERS, help="of all files (default: by their names; stdin is NDJSON)")
    reading.add_argument("--text-field", metavar="NAME", help="field or column of the text (default: text)")
    reading.add_argument("--id-field", metavar="NAME", help="of the id (default: id, where there is one)")
    reading.add_argument("--metadata-fields", metavar="NAMES", help="of what comes back with the vectors, with commas")
    reading.add_argument(
        "--chunk-chars", type=_positive, metavar="N", help="split text files on paragraphs, ids path#n"
    )
    reading.add_argument("--encoding", help="of CSV and text (default: utf-8)")

    made = parser.add_argument_group("what is made of it")
    made.add_argument("--model", help="name of the model (default: the deployment's)")
    made.add_argument("--kinds", metavar="KINDS", help="of dense, sparse, multivector, with commas (default: dense)")
    made.add_argument("--dimensions", type=_positive, metavar="N", help="keep the first N dimensions")
    made.add_argument(
        "--truncate", action=argparse.BooleanOptionalAction, help="cut long texts (default), or fail them"
    )
    made.add_argument("--precision", choices=DTYPES, help="number format of dense vectors (default: float32)")
    made.add_argument("--priority", type=int, metavar="N", help="-100 to 100; higher goes first (default: 0)")

    going = parser.add_argument_group("where it goes")
    going.add_argument("-o", "--output", metavar="FILE", help=".ndjson, .npy or .parquet")
    going.add_argument("--overwrite", action="store_true", help="replace the output file")
    going.add_argument("--webhook", metavar="URL|ID", help="receiver of callbacks; secret in MILLRACE_WEBHOOK_SECRET")
    going.add_argument("--sink", metavar="NAME", help="sink of the deployment, such as a Qdrant collection")
    going.add_argument("--sink-options", metavar="JSON", help="what the sink is told, as a JSON object")

    running = parser.add_argument_group("the job")
    running.add_argument("--no-wait", action="store_true", help="end after the upload and print the job's id")
    running.add_argument("--resume", metavar="JOB", help="go on with a job, its upload and its output file")
    running.add_argument("--keep-job", action="store_true", help="do not delete the job after its results are written")
    running.add_argument("--cancel-on-interrupt", action="store_true", help="Ctrl-C cancels the job")
    running.add_argument("-q", "--quiet", action="store_true", help="no progress")


def api_key(options: argparse.Namespace) -> str | None:
    """The key for the deployment."""
    return options.api_key or first_key(os.environ.get("MILLRACE_API_KEY"))


def _positive(text: str) -> int:
    number: Any = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(number)
