"""Panels of what does the work: workers, Redis, bulk jobs; and for whom."""

from docs.dashboard.panel import JOB, LANE, MODEL, Panel, Row, mean, quantile, rate

WORKERS = Row(
    "Workers",
    (
        Panel(
            "Live workers",
            "Workers with a lease, by model.",
            "none",
            ((f"max by (model) (millrace_workers{{{MODEL}}})", "{{model}}"),),
        ),
        Panel(
            "Models without a worker",
            "1 for a model that sleeps, and gets a worker as soon as work waits; 1 for one that is missing its workers.",
            "none",
            tuple(
                (
                    f'max by (model) (millrace_model_coverage{{{MODEL}, coverage="{coverage}"}})',
                    f"{{{{model}}}} {coverage}",
                )
                for coverage in ("missing", "sleeping")
            ),
        ),
        Panel(
            "Work without a worker",
            "How long work has waited for a model that has none: for a sleeping one no longer than its cold start.",
            "s",
            ((f"max by (model) (millrace_unserved_seconds{{{MODEL}}})", "{{model}}"),),
        ),
        Panel(
            "Tokens in forward passes",
            "Tokens per second that each model computes, special tokens included.",
            "short",
            ((rate("millrace_batch_tokens_sum", "model", MODEL), "{{model}}"),),
            stacked=True,
        ),
        Panel(
            "Forward passes",
            "Batches per second by outcome. Failed ones are run again in parts.",
            "ops",
            ((rate("millrace_batches_total", "model, outcome", MODEL), "{{model}} {{outcome}}"),),
        ),
        Panel(
            "Batch size",
            "Items per forward pass, in the mean and at the 95th percentile.",
            "none",
            (
                (mean("millrace_batch_items", "model", MODEL), "{{model}} mean"),
                (quantile(0.95, "millrace_batch_items", "model", MODEL), "{{model}} 95%"),
            ),
        ),
        Panel(
            "Batch fill",
            "Tokens of the mean forward pass over the most that one may have. Near 100% the workers are busy.",
            "percentunit",
            (
                (
                    f"{mean('millrace_batch_tokens', 'model', MODEL)}"
                    f" / avg by (model) (millrace_max_batch_tokens{{{MODEL}}})",
                    "{{model}}",
                ),
            ),
        ),
        Panel(
            "Time of a forward pass",
            "Median and 95th percentile.",
            "s",
            (
                (quantile(0.5, "millrace_batch_duration_seconds", "model", MODEL), "{{model}} median"),
                (quantile(0.95, "millrace_batch_duration_seconds", "model", MODEL), "{{model}} 95%"),
            ),
        ),
        Panel(
            "Device memory",
            "Of each worker's GPU: allocated by tensors, reserved by the engine, free, total. On a CPU the engine's "
            "own memory and"
            "the machine's.",
            "bytes",
            ((f"millrace_device_memory_bytes{{{JOB}}}", "{{instance}} {{kind}}"),),
        ),
        Panel(
            "Tokens in hand",
            "Tokens that workers have taken from their queues and not yet computed.",
            "short",
            ((f"sum by (model, lane) (millrace_held_tokens{{{LANE}}})", "{{model}} {{lane}}"),),
        ),
        Panel(
            "Troubles of workers",
            "Within five minutes: workers that died or fell silent, engine processes replaced, batches that did not "
            "fit into memory,"
            "tasks given up. And workers that are wedged now.",
            "none",
            (
                (f"max(increase(millrace_lost_workers{{{JOB}}}[5m]))", "lost workers"),
                (f"sum(increase(millrace_engine_restarts_total{{{JOB}}}[5m]))", "engines replaced"),
                (f"sum(increase(millrace_out_of_memory_total{{{JOB}}}[5m])) or vector(0)", "out of memory"),
                (f"max(increase(millrace_dead_letters{{{JOB}}}[5m]))", "dead letters"),
                (f"max(millrace_wedged_workers{{{JOB}}})", "wedged"),
            ),
        ),
        Panel(
            "Requests that fail at the worker",
            "Answered with an error by a worker, and dropped there because their deadline had passed.",
            "reqps",
            (
                (f"{rate('millrace_failed_requests_total', 'code')} or vector(0)", "{{code}}"),
                (f"{rate('millrace_expired_requests_total')} or vector(0)", "expired"),
            ),
        ),
        Panel(
            "Delivery of results",
            "Time to store, publish and acknowledge what ended together, 95th percentile: a round trip to Redis.",
            "s",
            ((quantile(0.95, "millrace_delivery_duration_seconds"), "95%"),),
        ),
        Panel(
            "Standstill",
            "How long work has waited for a worker without any of it moving. At 30 s the worker is wedged.",
            "s",
            ((f"max by (instance) (millrace_standstill_seconds{{{JOB}}})", "{{instance}}"),),
            limits=((30, "red"),),
        ),
    ),
)

REDIS = Row(
    "Redis",
    (
        Panel(
            "Memory",
            "What Redis takes, and the most that it may take. Above 80% is an alert.",
            "bytes",
            (
                (f"max(millrace_redis_used_bytes{{{JOB}}})", "used"),
                (f"max(millrace_redis_limit_bytes{{{JOB}}})", "limit"),
            ),
        ),
        Panel(
            "Health",
            "1 while every process reaches Redis, and while Redis can write to its disk.",
            "none",
            (
                (f"min(millrace_redis_reachable{{{JOB}}})", "reachable"),
                (f"min(millrace_redis_persisting{{{JOB}}})", "persisting"),
            ),
        ),
        Panel(
            "Replies by their way",
            "By subscription as a rule; by sweep what the subscription missed, half a second late or more.",
            "ops",
            ((rate("millrace_replies_total", "way"), "{{way}}"),),
        ),
        Panel(
            "Tasks",
            "Published; published again because they were lost; taken back from dead workers.",
            "ops",
            (
                (rate("millrace_tasks_published_total", "lane", LANE), "published {{lane}}"),
                (f"{rate('millrace_tasks_republished_total')} or vector(0)", "published again"),
                (rate("millrace_recovered_tasks_total"), "taken back"),
            ),
        ),
        Panel(
            "Evicted keys",
            "Keys that Redis threw away for lack of memory since its start. Anything but 0 is lost work: its policy "
            "has to be"
            "`noeviction`.",
            "none",
            ((f"max(millrace_redis_evicted_keys{{{JOB}}})", "evicted"),),
            limits=((1, "red"),),
        ),
        Panel(
            "Pending requests",
            "Requests, and texts and documents, accepted and not yet answered, in all gateways and job runners.",
            "none",
            (
                (f"sum(millrace_pending_requests{{{JOB}}})", "requests"),
                (f"sum(millrace_pending_items{{{JOB}}})", "texts and documents"),
            ),
        ),
        Panel(
            "Room for large bodies and answers",
            "Bytes that are taken, by gateway. At the limit (256 MiB each, unless set) further ones wait.",
            "bytes",
            (
                (f"millrace_large_bodies_bytes{{{JOB}}}", "bodies {{instance}}"),
                (f"millrace_large_answers_bytes{{{JOB}}}", "answers {{instance}}"),
            ),
        ),
    ),
)

BULK = Row(
    "Bulk jobs and callbacks",
    (
        Panel(
            "Documents of jobs",
            "Documents and lines per second, by kind of job and outcome.",
            "short",
            ((rate("millrace_job_documents_total", "kind, outcome"), "{{kind}} {{outcome}}"),),
        ),
        Panel(
            "Jobs and segments",
            "Jobs that have not ended, and segments that are being run.",
            "none",
            (
                (f"max(millrace_active_jobs{{{JOB}}})", "jobs"),
                (f"sum(millrace_running_segments{{{JOB}}})", "segments"),
            ),
        ),
        Panel(
            "Longest standstill of a job",
            "How long the job has gone without progress that has waited longest though it is its turn. Above 15 min "
            "is an alert.",
            "s",
            ((f"max(millrace_stalled_job_seconds{{{JOB}}})", "standstill"),),
            limits=((900, "red"),),
        ),
        Panel(
            "Callbacks",
            "Attempts per second by receiver and outcome: delivered, retried (it will be tried again), dead (given "
            "up).",
            "ops",
            ((rate("millrace_callbacks_total", "target, outcome"), "{{target}} {{outcome}}"),),
        ),
        Panel(
            "Pending callbacks",
            "Callbacks of all jobs that have not ended, those that wait for their next attempt too.",
            "none",
            ((f"max(millrace_pending_callbacks{{{JOB}}})", "pending"),),
        ),
        Panel(
            "Time of an attempt",
            "95th percentile, by receiver. Slow receivers have slots of their own and hold up nobody else.",
            "s",
            ((quantile(0.95, "millrace_callback_duration_seconds", "target"), "{{target}}"),),
        ),
        Panel(
            "Store",
            "What files and bulk jobs take in the store.",
            "bytes",
            ((f"max(millrace_stored_bytes{{{JOB}}})", "stored"),),
        ),
    ),
)

TENANTS = Row(
    "Tenants",
    (
        Panel(
            "Requests",
            "Requests and lines of batches answered per second, by tenant. Empty where no keys are asked for.",
            "reqps",
            ((rate("millrace_tenant_requests_total", "tenant", MODEL), "{{tenant}}"),),
        ),
        Panel(
            "Texts and documents",
            "Per second, by tenant.",
            "short",
            ((rate("millrace_tenant_items_total", "tenant", MODEL), "{{tenant}}"),),
        ),
        Panel(
            "Tokens",
            "Tokens per second that models have read, by tenant.",
            "short",
            ((rate("millrace_tenant_tokens_total", "tenant", MODEL), "{{tenant}}"),),
        ),
    ),
)
