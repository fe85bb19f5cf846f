"""`millrace ingest`: upload, progress and results of one job, side by side."""

import argparse
import re
import shlex
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from millrace.ingest.client import FINAL_STATUSES, Client
from millrace.ingest.command import DEFAULT_URL, api_key
from millrace.ingest.interrupts import Interrupts
from millrace.ingest.job_options import job_options, refuse_of_resumed
from millrace.ingest.ledger import Ledger
from millrace.ingest.output_lock import hold
from millrace.ingest.plan import Plan
from millrace.ingest.problems import InputProblem, ServiceProblem
from millrace.ingest.progress import Display, display, duration, say
from millrace.ingest.readers import Corpus
from millrace.ingest.sources import STDIN
from millrace.ingest.upload import Upload
from millrace.ingest.watch import Watch
from millrace.ingest.write_npy import ids_path
from millrace.ingest.writers import Writer, check_output, discard, open_writer, unfinished

_DONE, _FAILED, _WRONG_INPUT, _SOME_FAILED, _INTERRUPTED = 0, 1, 2, 3, 130

_JOB_ID = re.compile(r"[\w-]+", re.ASCII)

#: Pause between two looks at what runs beside, in seconds.
_LOOK_S = 0.1
#: How long the last look at the job may take, in seconds.
_JOIN_S = 5.0


def ingest(options: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        The exit status; `--help` explains it.
    """
    run: _Run | None = None
    with Interrupts() as interrupts:
        try:
            try:
                with interrupts.shielded():  # loads modules, in which an interruption may get lost
                    run = _Run(options, interrupts)
                run.prepare()
                return run.carry_out()
            except (KeyboardInterrupt, InputProblem, ServiceProblem, OSError) as err:
                return run.stop(err) if run is not None else _told(err)
        except KeyboardInterrupt:  # the second one does not wait for anything
            return _INTERRUPTED


class _Run:
    """One start of the command."""

    def __init__(self, options: argparse.Namespace, interrupts: Interrupts) -> None:
        self._options = options
        self._interrupts = interrupts
        self._output = Path(options.output) if options.output else None
        self._client = Client(options.url, api_key=api_key(options))
        self._job: dict[str, Any] | None = None
        self._upload: Upload | None = None
        self._writer: Writer | None = None
        self._corpus: Corpus | None = None
        #: Beside the output; one that lies there already goes on with it.
        self._ledger: Ledger | None = None
        self._goes_on = False
        self._watch: Watch | None = None
        self._display: Display | None = None
        self._lock: IO[str] | None = None
        self._started = time.monotonic()

    def prepare(self) -> None:
        """Make the job, or find the one to go on with, and all that belongs to it."""
        if self._options.no_wait and self._output:
            raise InputProblem("--no-wait writes no output; leave out one of --no-wait and -o")
        if self._output and self._output.parent.is_dir():
            self._lock = hold(self._output)
        if self._options.resume:
            self._prepare_resumed(self._options.resume)
        else:
            self._prepare_new()

    def carry_out(self) -> int:
        """Let upload, results and progress run to their end; the exit status."""
        job = self._known_job()
        with self._interrupts.shielded():  # loads rich
            self._display = display(quiet=self._options.quiet)
        self._watch = Watch(self._client, job, self._display, self._upload, self._writer)
        if self._upload:
            self._upload.start()
        self._watch.start()
        if self._writer:
            self._write(job["id"], self._writer)
        else:
            self._wait(self._watch)
        self._client.stopped.set()
        self._watch.join(_JOIN_S)
        self._watch.look()
        self._display.close()
        return self._conclude(self._client.job(job["id"]))

    def stop(self, err: BaseException) -> int:
        """End early: say why and how to go on, then leave all in order; the exit status."""
        self._client.stopped.set()
        if self._display:
            self._display.close()
        status = _told(err)
        if self._job is not None:
            self._tell_how_to_resume(self._watch.job if self._watch else self._job)
            if isinstance(err, KeyboardInterrupt) and self._options.cancel_on_interrupt:
                self._cancel(self._job["id"])
        if self._writer:
            try:
                self._writer.close()
            except OSError as closing:
                _told(closing)
        return status

    def _prepare_new(self) -> None:
        options, plan = self._options, Plan.asked_for(self._options)
        if not options.files:
            raise InputProblem("there is no FILE to read")
        if self._output:
            check_output(self._output, kinds=plan.kind_list(), overwrite=options.overwrite)
        corpus = Corpus(options.files, plan.reading(), file_format=plan.format)
        corpus.check()
        documents = corpus.documents()
        first = next(documents, None)
        if first is None:
            raise InputProblem(f"there are no documents in {', '.join(options.files)}")
        self._job, secret = self._client.create_job(job_options(options, plan.for_files(corpus.names)))
        if secret is not None:
            say(f"Callbacks are signed with {secret}; it is not shown again.")
        self._ledger = Ledger(self._output, self._job["id"]) if self._output else None
        self._begin_upload(corpus, chain([first], documents))
        self._open_output(plan)

    def _prepare_resumed(self, job_id: str) -> None:
        if not _JOB_ID.fullmatch(job_id):
            raise InputProblem(f"{job_id!r} is not the id of a job; it stands behind --resume, before the FILEs")
        options, job = self._options, self._client.job(job_id)
        if job["kind"] != "ingest":
            raise InputProblem(f"{job_id} is a batch of requests, not an ingest")
        asked = Plan.asked_for(options)
        begun = Plan.of_job(job)
        plan = asked if begun is None else begun
        plan.check_resumed(asked)
        if begun is None:
            asked.check_foreign()
        refuse_of_resumed(options)
        if self._output:
            check_output(self._output, kinds=plan.kind_list(), overwrite=True)
            known = None if options.overwrite else unfinished(self._output, job_id)
            self._ledger, self._goes_on = known or Ledger(self._output, job_id), known is not None
        if job["status"] in ("failed", "cancelled", "expired"):
            job = self._client.resume(job_id)
        if not job["input_complete"]:
            if not options.files:
                raise InputProblem("the upload is not complete; give the same FILEs again")
            corpus = Corpus(options.files, plan.reading(), file_format=plan.format)
            plan.check_files(corpus.names)
            seen = self._ledger.seen if self._ledger else None
            documents = corpus.documents(job["counts"]["received"], seen=seen)
            self._job = job
            self._begin_upload(corpus, documents)
        self._job = job
        self._open_output(plan)

    def _begin_upload(self, corpus: Corpus, documents: Iterator[bytes]) -> None:
        job = self._known_job()
        self._corpus = corpus
        self._upload = Upload(self._client, job["id"], corpus, documents, job["counts"]["received"], self._ledger)

    def _open_output(self, plan: Plan) -> None:
        if self._output and self._ledger:
            if not self._goes_on:
                discard(self._output)
            self._ledger.write()
            with self._interrupts.shielded():  # loads pyarrow
                self._writer = open_writer(
                    self._output,
                    resume=self._goes_on,
                    precision=plan.number_format(),
                    kinds=plan.kind_list(),
                )

    def _write(self, job_id: str, writer: Writer) -> None:
        for lines in self._client.results(job_id, offset=writer.next_index, encoding=writer.encoding):
            if self._upload:
                self._upload.check()
            if lines:
                with self._interrupts.shielded():
                    writer.write(lines)

    def _wait(self, watch: Watch) -> None:
        upload_is_all = self._options.no_wait
        while not watch.has_ended.wait(_LOOK_S):
            if self._upload:
                self._upload.check()
            if upload_is_all and (self._upload is None or self._upload.is_complete):
                return

    def _conclude(self, job: dict[str, Any]) -> int:
        job_id, counts = job["id"], job["counts"]
        if self._options.no_wait:
            sys.stdout.write(f"{job_id}\n")
            say(f"{counts['received']:,} documents are sent; {self._to_get_results(job_id)}")
            self._tell_empty_files()
            return _DONE
        made = ""
        if self._writer:
            with self._interrupts.shielded():
                made = f" {self._output}: {self._writer.finish()}."
        if job["status"] != "completed":
            why = "".join(f": {error['message']}" for error in job["errors"][:1])
            say(f"the job is {job['status']}{why}")
            self._tell_how_to_resume(job)
            return _FAILED
        if self._ledger:
            self._ledger.remove()
        seconds = time.monotonic() - self._started
        done = counts["completed"] + counts["failed"]
        say(f"{done:,} documents, {job['tokens']:,} tokens, in {duration(seconds)}.{made}")
        if counts["failed"]:
            say(f"{counts['failed']:,} of them have an error and no vectors: see `error` in {self._error_place(job)}")
        self._tell_empty_files()
        if self._writer is None:
            say(self._to_get_results(job_id))
        elif not (self._options.keep_job or job["callbacks"]["endpoint"] or job["callbacks"]["sink"]):
            self._delete(job_id)
        return _SOME_FAILED if counts["failed"] else _DONE

    def _tell_empty_files(self) -> None:
        if self._corpus and self._corpus.empty:
            say(self._corpus.left_out())

    def _error_place(self, job: dict[str, Any]) -> str:
        if self._output is None:
            return str(job["results_url"])
        return str(ids_path(self._output) if self._output.suffix == ".npy" else self._output)

    def _tell_how_to_resume(self, job: dict[str, Any]) -> None:
        counts, upload = job["counts"], self._upload
        sent = max(counts["received"], upload.sent if upload else 0)
        facts = [f"{sent:,} documents sent", f"{counts['completed'] + counts['failed']:,} embedded"]
        facts += [f"{self._writer.next_index:,} written"] if self._writer else []
        if job["status"] in FINAL_STATUSES or self._options.cancel_on_interrupt:
            state = "is kept"
        elif upload is None or upload.is_complete:
            state = "goes on by itself"
        else:
            state = "waits for the rest of its documents"
        say(f"Job {job['id']} {state}: {', '.join(facts)}. Come back with")
        say(f"  {self._command_line(job['id'], [*self._options.files, *self._output_words()])}")
        if STDIN in self._options.files and self._upload and not self._upload.is_complete:
            say("and the same standard input.")

    def _to_get_results(self, job_id: str) -> str:
        return f"write the results to a file with\n  {self._command_line(job_id, ['-o', 'FILE'])}"

    def _command_line(self, job_id: str, words: list[str]) -> str:
        url = ["--url", self._options.url] if self._options.url != DEFAULT_URL else []
        return shlex.join(["millrace", "ingest", "--resume", job_id, *words, *url])

    def _output_words(self) -> list[str]:
        return ["-o", str(self._output)] if self._output else []

    def _cancel(self, job_id: str) -> None:
        try:
            self._client.cancel(job_id)
            say(f"Job {job_id} is cancelled.")
        except ServiceProblem as err:
            say(f"The job could not be cancelled: {err}")

    def _delete(self, job_id: str) -> None:
        try:
            self._client.delete(job_id)
        except ServiceProblem as err:
            say(f"job {job_id} could not be deleted: {err}")

    def _known_job(self) -> dict[str, Any]:
        if self._job is None:
            raise RuntimeError("there is no job yet")
        return self._job


def _told(err: BaseException) -> int:
    """Say what went wrong in a sentence; the exit status."""
    match err:
        case KeyboardInterrupt():
            say("Interrupted.")
            return _INTERRUPTED
        case InputProblem():
            say(f"millrace ingest: {err}")
            return _WRONG_INPUT
        case OSError():
            say(f"millrace ingest: {err.filename or 'the output'} cannot be written: {err.strerror or err}")
            return _FAILED
        case _:
            say(f"millrace ingest: {err}")
            return _FAILED
