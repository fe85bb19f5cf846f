"""What `millrace serve` says to the person who started it."""

from millrace.ports import url_of
from millrace.settings import ServeSettings


def print_ready(settings: ServeSettings, workers: int, seconds: float) -> None:
    """The URLs, once the service has answered its first real request."""
    base = url_of(settings.host, settings.port)
    names = ", ".join(model.name for model in settings.models())
    lines = [
        "",
        f"Millrace answered its first request after {seconds:.1f} s.",
        f"  models    {names}",
        f"  workers   {workers}",
        f"  console   {base}          (in a browser)",
        f"  API       {base}          (documentation: {base}/docs)",
        f"  metrics   {base}/metrics",
    ]
    if settings.worker_metrics_port:
        first = settings.worker_metrics_port
        ports = (
            f"{first}/metrics (worker)"
            if workers == 1
            else f"{first}/metrics to :{first + workers - 1} (workers, a port each)"
        )
        lines.append(f"            http://127.0.0.1:{ports}")
    if settings.flower_port:
        prefix = f"/{settings.flower_url_prefix}" if settings.flower_url_prefix else ""
        lines.append(f"  Flower    {url_of(settings.flower_host, settings.flower_port)}{prefix}")
    lines += [
        "  try       " + f'curl {base}/embed -d \'{{"inputs": "The weather is lovely today."}}\'',
        "  stop      Ctrl-C",
        "",
    ]
    print("\n".join(lines), flush=True)
