"""The queue contract: everything that the gateway and the workers must agree on, and nothing else."""

__version__ = "0.1.0"

#: Version of the task and reply bodies. Fields are only added, always with a default; a break raises this number.
CONTRACT_VERSION = 1
