"""Documents to results, by way of the bulk lane."""

from collections.abc import Sequence
from functools import partial

from api.access.usage import Usage
from api.bulk import bisect
from api.bulk.bisect import Embedded
from api.bulk.documents import Document, embed_request
from api.dispatch import Dispatcher, Published
from shared import deadline as deadlines
from shared.bulk.jobs import EmbedOptions
from shared.bulk.results import SegmentResults
from shared.errors import MillraceError
from shared.jobs import EmbedRequest
from shared.metrics import Metrics
from shared.queues import Lane, Operation


class Embedding:
    """Has documents embedded by a model's workers."""

    def __init__(self, dispatcher: Dispatcher, metrics: Metrics, usage: Usage) -> None:
        self._usage = usage
        self._dispatcher = dispatcher
        self._metrics = metrics

    async def run(
        self,
        documents: Sequence[Document],
        *,
        first: int,
        model: str,
        options: EmbedOptions,
        request_id: str,
        timeout_s: float,
        tenant: str | None,
        published: Published | None = None,
    ) -> SegmentResults:
        """Embed documents; one that cannot be fails alone.

        Args:
            documents: As they were parsed.
            first: Index of the first of them.
            model: Own name of the model.
            options: What is made of them.
            request_id: What this is called in logs.
            timeout_s: How long the workers have, in seconds.
            tenant: Whose they are; None where no keys are asked for.
            published: Where it is added up what the workers are given to do, for those who want to know.

        Raises:
            MillraceError: A retryable one: it could not be done now.
        """
        places = [place for place, document in enumerate(documents) if document.error is None]
        # By length: a segment is run in many batches, and those of equal lengths are the fastest.
        places.sort(key=lambda place: len(documents[place].text))
        texts = [documents[place].text for place in places]

        def build(some: Sequence[str]) -> EmbedRequest:
            return embed_request(some, options, request_id=request_id, deadline=deadlines.after(timeout_s))

        send = partial(self._dispatcher.run, model, Lane.BULK, published=published)
        embedded = await bisect.embed(places, texts, build, send)
        results = _gathered(documents, first, embedded, options)
        self._metrics.counter("millrace_tokens_total", model=model, operation=str(Operation.EMBED)).inc(results.tokens)
        self._usage.count(tenant, model, requests=0, items=len(results) - len(results.errors), tokens=results.tokens)
        return results


def all_failed(
    documents: Sequence[Document], error: MillraceError, *, first: int, options: EmbedOptions
) -> SegmentResults:
    """The results of documents of which none could be embedded, each with its own error or this one."""
    errors = {place: error for place, document in enumerate(documents) if document.error is None}
    return _gathered(documents, first, Embedded(errors=errors), options)


def _gathered(documents: Sequence[Document], first: int, embedded: Embedded, options: EmbedOptions) -> SegmentResults:
    return SegmentResults(
        first=first,
        ids=[document.id for document in documents],
        metadata={place: entry.metadata for place, entry in enumerate(documents) if entry.metadata is not None},
        parts=embedded.parts,
        errors={place: entry.error for place, entry in enumerate(documents) if entry.error} | embedded.errors,
        precision=options.precision,
    )
