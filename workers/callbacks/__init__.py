"""Callback workers: Celery tasks on CPUs that send results and events where jobs want them."""
