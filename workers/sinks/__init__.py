"""Sinks: where results of bulk jobs go, one file each."""
