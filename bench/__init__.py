"""The benchmark: what the service reaches, beside what the machine reaches without it. Run: `python -m bench`."""
