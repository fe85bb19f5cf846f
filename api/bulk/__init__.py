"""Bulk jobs over HTTP, and the runner that feeds them to the workers."""
