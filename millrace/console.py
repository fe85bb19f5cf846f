"""What `millrace serve` says to the person who started it."""

from millrace.settings import ServeSettings


def print_ready(settings: ServeSettings, workers: int, seconds: float) -> None:
    """The URLs, once the service has answered its first real request."""
    base = f"http://{settings.host}:{settings.port}"
    names = ", ".join(model.name for model in settings.models())
    lines = [
        "",
        f"Millrace answered its first request after {seconds:.1f} s.",
        f"  models    {names}",
        f"  workers   {workers}",
        f"  API       {base}          (documentation: {base}/docs)",
        f"  metrics   {base}/metrics",
    ]
    if settings.worker_metrics_port:
        lines.append(f"            http://127.0.0.1:{settings.worker_metrics_port}/metrics (worker)")
    if settings.flower_port:
        lines.append(f"  Flower    http://{settings.flower_host}:{settings.flower_port}")
    lines += [
        "  try       " + f'curl {base}/embed -d \'{{"inputs": "The weather is lovely today."}}\'',
        "  stop      Ctrl-C",
        "",
    ]
    print("\n".join(lines), flush=True)
