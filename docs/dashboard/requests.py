"""Panels of what users notice: traffic, errors, latency, queues."""

from docs.dashboard.panel import FAILED, JOB, LANE, MODEL, Panel, Row, mean, quantile, rate

OVERVIEW = Row(
    "Overview",
    (
        Panel(
            "Requests",
            "HTTP requests answered per second, in all dialects, good or bad.",
            "reqps",
            ((rate("millrace_requests_total"), ""),),
            "stat",
            4,
        ),
        Panel(
            "Failing",
            "Share of requests that end with an error of the service (status 500 and above). Above 5% is an alert.",
            "percentunit",
            (
                (
                    f"{rate('millrace_requests_total', chosen=f'{JOB}, {FAILED}')}"
                    f" / {rate('millrace_requests_total')} or vector(0)",
                    "",
                ),
            ),
            "stat",
            4,
            limits=((0.01, "yellow"), (0.05, "red")),
        ),
        Panel(
            "Latency, 95th percentile",
            "Of all requests, one in twenty takes longer than this in the gateway.",
            "s",
            ((quantile(0.95, "millrace_request_duration_seconds"), ""),),
            "stat",
            4,
        ),
        Panel(
            "Oldest request",
            "How long the oldest interactive request waits for its answer now.",
            "s",
            ((f'max(millrace_oldest_request_seconds{{{MODEL}, lane="interactive"}})', ""),),
            "stat",
            4,
            limits=((1, "yellow"), (10, "red")),
        ),
        Panel(
            "Live workers",
            "Workers with a lease, of the model that has the fewest.",
            "none",
            ((f"min(max by (model) (millrace_workers{{{MODEL}}}))", ""),),
            "stat",
            4,
        ),
        Panel(
            "Bulk jobs",
            "Jobs that have not ended.",
            "none",
            ((f"max(millrace_active_jobs{{{JOB}}})", ""),),
            "stat",
            4,
        ),
    ),
)

TRAFFIC = Row(
    "Traffic and errors",
    (
        Panel(
            "Requests by dialect and operation",
            "Who asks for what. A client that changes its library shows here.",
            "reqps",
            ((rate("millrace_requests_total", "dialect, operation"), "{{dialect}} {{operation}}"),),
            stacked=True,
        ),
        Panel(
            "Requests by result",
            "`ok`, or the code of the error. `overloaded` is admission that refuses, `deadline_exceeded` work that "
            "came too late,"
            "`client_left` a client that hung up.",
            "reqps",
            ((rate("millrace_requests_total", "code"), "{{code}}"),),
        ),
        Panel(
            "Refused because of their keys",
            "Requests with a missing, wrong or exhausted key, by the code of the error.",
            "reqps",
            ((f"{rate('millrace_refused_requests_total', 'code')} or vector(0)", "{{code}}"),),
        ),
        Panel(
            "Tokens of answered requests",
            "Tokens per second that models have read, those of bulk jobs too.",
            "short",
            ((rate("millrace_tokens_total", "model, operation", MODEL), "{{model}} {{operation}}"),),
            stacked=True,
        ),
        Panel(
            "Texts per request",
            "Half of the requests have at most so many texts or documents, and 95% at most so many.",
            "none",
            (
                (quantile(0.5, "millrace_request_items", "operation"), "{{operation}} median"),
                (quantile(0.95, "millrace_request_items", "operation"), "{{operation}} 95%"),
            ),
        ),
        Panel(
            "Inputs cut short",
            "Inputs per second that were longer than their model reads. Much of it means that texts should be split "
            "before.",
            "short",
            ((f"{rate('millrace_truncated_inputs_total', 'model', MODEL)} or vector(0)", "{{model}}"),),
        ),
    ),
)

LATENCY = Row(
    "Latency",
    (
        Panel(
            "Latency of requests",
            "From the first byte that the gateway reads to the answer.",
            "s",
            tuple(
                (quantile(share, "millrace_request_duration_seconds"), f"{share:.0%}") for share in (0.5, 0.95, 0.99)
            ),
        ),
        Panel(
            "Mean time by stage",
            "Where the time of an answered request goes: gateway (read, check, render), queue (waiting for the "
            "device), tokenize,"
            "infer (forward passes), reply (waiting for the task's other requests, and the way back).",
            "s",
            ((mean("millrace_stage_duration_seconds", "stage", LANE), "{{stage}}"),),
            stacked=True,
        ),
        Panel(
            "95th percentile by stage",
            "One in twenty takes longer in this stage. Queue: too few workers. Infer: long inputs, or a slow "
            "device. Reply: a slow"
            "Redis, or tasks of unequal requests. Gateway: large bodies, or too few gateways.",
            "s",
            ((quantile(0.95, "millrace_stage_duration_seconds", "stage", LANE), "{{stage}}"),),
        ),
    ),
)

QUEUES = Row(
    "Queues",
    (
        Panel(
            "Tasks in Redis",
            "Length of each queue. Gateways keep some tasks per worker there and the rest with themselves, so look "
            "at the backlog too.",
            "none",
            ((f"max by (model, lane) (millrace_queue_length{{{LANE}}})", "{{model}} {{lane}}"),),
        ),
        Panel(
            "Oldest request",
            "Age of the oldest request that is accepted and not yet answered. Bulk work may grow old, searches may "
            "not.",
            "s",
            ((f"max by (model, lane) (millrace_oldest_request_seconds{{{LANE}}})", "{{model}} {{lane}}"),),
        ),
        Panel(
            "Backlog",
            "How long the workers need for what waits now, at the speed that they measure: what KEDA may scale on.",
            "s",
            ((f"max by (model, lane) (millrace_backlog_seconds{{{LANE}}})", "{{model}} {{lane}}"),),
        ),
        Panel(
            "Wait for the device, 95th percentile",
            "In the gateway, in Redis and in the worker's lane, until the forward pass begins.",
            "s",
            (
                (
                    quantile(0.95, "millrace_stage_duration_seconds", "model, lane", f'{LANE}, stage="queue"'),
                    "{{model}} {{lane}}",
                ),
            ),
            limits=((1, "red"),),
        ),
        Panel(
            "Of it in the worker",
            "Time of an item in its worker's lane, 95th percentile. The rest of the wait was in the gateway and in "
            "Redis.",
            "s",
            ((quantile(0.95, "millrace_queue_wait_seconds", "model, lane", LANE), "{{model}} {{lane}}"),),
        ),
        Panel(
            "Requests per task",
            "How many requests leave in one task. About 1 while the service is idle, more the more there is to do.",
            "none",
            ((mean("millrace_task_requests", "model, lane", LANE), "{{model}} {{lane}}"),),
        ),
    ),
)
