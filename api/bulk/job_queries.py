"""Queries and forms of the routes of ingest and its jobs."""

from pydantic import BaseModel, ConfigDict, Field

from api.bulk.fields import WebhookUrl
from api.bulk.ingest_options import CommonOptions
from api.bulk.pages import PageQuery
from shared.bulk.jobs import VectorEncoding

_KIND = "(dense|sparse|multivector)"


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ListQuery(PageQuery, _Query):
    """Of a list of jobs."""


class IngestFields(CommonOptions):
    """Of an ingest: its options, as `ingest_options.read_options` reads them from text."""

    kinds: str = Field("dense", pattern=f"^{_KIND}(,{_KIND})*$", description="Kinds of vectors, with commas.")
    webhook: WebhookUrl | None = Field(None, description="Receiver of events, in the place of `webhook_endpoint`.")
    more: bool = Field(False, description="More documents come in another body.")


class DocumentsFields(_Query):
    """Of documents for a job."""

    offset: int | None = Field(
        None, ge=0, description="Index of the first document; those that the job has are skipped."
    )
    more: bool = Field(False, description="More documents come in another body.")


class ResultsQuery(_Query):
    """Of a job's results."""

    offset: int = Field(0, ge=0, description="Index of the first document.")
    limit: int | None = Field(None, ge=0, description="Most documents.")
    encoding: VectorEncoding = Field("float", description="How vectors are written down; `binary` is msgpack.")
    follow: bool = Field(False, description="Wait for more until the job ends.")
