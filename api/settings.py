"""Settings of the gateway."""

import re
from ipaddress import ip_network
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from shared.bulk.settings import WebhookSettings

_ORIGIN = re.compile(r"https?://[^/?#\s]+")


class ApiSettings(WebhookSettings):
    """What the gateway reads from the environment."""

    # A field that has somebody else's variable has its own all the same.
    model_config = SettingsConfigDict(populate_by_name=True)

    host: str = Field("127.0.0.1", description="Address that the gateway listens on.")
    port: int = Field(8080, ge=1, le=65535, description="Port that the gateway listens on.")
    api_key: SecretStr = Field(
        SecretStr(""),
        description="API keys, separated by commas: every request must bring one of them, which may then do everything. "
        "Without this and `MILLRACE_KEYS_FILE` no key is asked for, and any that is sent is ignored.",
    )
    keys_file: Path | None = Field(
        None,
        description="YAML file of tenants, their keys (hashed) and what those allow; followed while the service runs.",
    )
    metrics_need_key: bool = Field(
        False, description="Ask for a key of the group `admin` at `/metrics` too, where keys are asked for."
    )
    trusted_proxies: str = Field(
        "",
        description="Comma-separated addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are "
        "believed: the client is then the last address there that is none of theirs. Nobody is believed by default.",
    )
    cors_origins: str = Field(
        "",
        description="Comma-separated origins (`https://app.example`) whose pages may call the service from a browser, or "
        "`*` for all. None by default.",
    )
    usage_ttl_s: float = Field(
        90 * 86_400, ge=86_400, description="How long it is kept what tenants have used on a day, in seconds."
    )
    leave_after_s: float = Field(
        0.0,
        ge=0,
        description="How long a gateway goes on taking requests after SIGTERM while `/ready` says 503, in seconds: until "
        "load balancers have looked elsewhere.",
    )
    request_timeout_s: float = Field(
        30.0, gt=0, description="Deadline of a request in seconds; the header `x-request-timeout` overrides it."
    )
    max_client_batch_size: int = Field(2048, ge=1, description="Most texts or documents in one request.")
    any_model_name: bool = Field(
        False,
        description="Where a single model is served, take every `model` in a request for it, as TEI does, instead of "
        "refusing unknown ones.",
    )
    return_documents: bool = Field(
        False,
        description="Repeat each document beside its score where a rerank request does not say whether to: for clients that "
        "read it there and cannot ask for it.",
    )
    body_timeout_s: float = Field(
        120.0,
        gt=0,
        description="How long the body of a request may take to arrive, in seconds; uploads may take longer.",
    )
    body_limit_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="Largest request body, in bytes.")
    large_bodies_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1024,
        description="Request bodies of more than 256 KiB that one gateway holds at a time, in bytes, half of it for each "
        "lane; further ones are read when there is room. The gateway's memory grows by up to twice as much.",
    )
    large_answers_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1024,
        description="Answers of more than 4 MiB that one gateway holds at a time until they are sent, in bytes, half of it "
        "for each lane; further ones are computed when there is room.",
    )
    max_pending_items: int = Field(
        100_000, ge=1, description="Texts and documents that one gateway holds unanswered; more are refused with 429."
    )
    tasks_in_flight_per_worker: int = Field(
        4,
        ge=0,
        description="Tasks of a queue that a gateway keeps in flight per live worker before it gathers requests: two that "
        "are computed and two on their way; "
        "0 publishes each request as its own task.",
    )
    image_urls: bool = Field(True, description="Fetch images from URLs in requests; base64 is accepted in any case.")
    image_hosts: str = Field(
        "",
        description="Comma-separated hosts (`host`, `host:port`) and networks that images may be fetched from though their "
        "addresses are not public.",
    )
    image_timeout_s: float = Field(
        5.0, gt=0, description="Longest time to fetch one image, redirects and all, in seconds."
    )
    image_limit_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="Largest image file, in bytes.")
    max_images: int = Field(32, ge=1, description="Most images in one request.")
    vertex_predict_route: str = Field(
        "",
        validation_alias="AIP_PREDICT_ROUTE",
        description="A further path of `/vertex`: Vertex AI names it in `AIP_PREDICT_ROUTE`, which is read too.",
    )
    vertex_health_route: str = Field(
        "",
        validation_alias="AIP_HEALTH_ROUTE",
        description="A further path of `/readyz`: Vertex AI names it in `AIP_HEALTH_ROUTE`, which is read too.",
    )
    jobs: bool = Field(
        True,
        description="Take bulk jobs, files and batches. Say `false` where no job runner runs: they are refused with 404 "
        "instead of waiting for ever.",
    )
    file_limit_bytes: int = Field(1 << 30, ge=1024, description="Largest uploaded file of a batch, in bytes.")
    file_ttl_s: float = Field(30 * 86_400, gt=0, description="How long an uploaded file is kept, in seconds.")
    batch_limit_lines: int = Field(100_000, ge=1, description="Most lines of a batch's input file.")
    store_limit_bytes: int = Field(
        0, ge=0, description="Most bytes that bulk jobs and files may take in the store; 0 for no limit but the disk's."
    )
    job_segment_documents: int = Field(
        256,
        ge=1,
        le=10_000,
        description="Most documents of a bulk job that are stored, run and called back together; a job begins with fewer.",
    )
    job_segment_bytes: int = Field(
        512 * 1024, ge=1024, description="Input bytes after which a segment ends, however few documents it has."
    )
    job_document_bytes: int = Field(
        1024 * 1024,
        ge=1024,
        description="Longest input line of a bulk job, in bytes; a longer one is an error of its own.",
    )
    job_timeout_s: float = Field(
        7 * 86_400, gt=0, description="How long an ingest job may take before it expires, in seconds."
    )
    job_results_ttl_s: float = Field(
        7 * 86_400, gt=0, description="How long a finished job and its results are kept, in seconds."
    )
    job_upload_idle_s: float = Field(
        3_600,
        gt=0,
        description="How long an unfinished upload may be silent before it is closed and its job fails, in seconds.",
    )
    access_log: bool = Field(True, description="Log each answered request.")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, listed: str) -> str:
        for network in names(listed):
            ip_network(network)
        return listed

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, listed: str) -> str:
        if wrong := [origin for origin in names(listed) if origin != "*" and not _ORIGIN.fullmatch(origin)]:
            raise ValueError(f"{wrong[0]!r} is no origin such as https://app.example, without a path")
        return listed


def names(listed: str) -> list[str]:
    """The entries of a list with commas."""
    return [name.strip() for name in listed.split(",") if name.strip()]


class RunnerSettings(ApiSettings):
    """What the job runner reads from the environment, beside what it has in common with the gateway."""

    runner_metrics_host: str = Field("127.0.0.1", description="Address of the job runner's Prometheus endpoint.")
    runner_metrics_port: int = Field(
        9807, ge=0, le=65535, description="Port of the job runner's Prometheus endpoint; 0 turns it off."
    )
