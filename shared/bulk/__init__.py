"""Bulk jobs: what the gateway, the job runner and the callback workers have in common.

A **job** is a bulk submission. Its input is kept in the **store** (files through fsspec) in **segments** of some hundred
documents, which are the unit of durable progress: a segment is claimed by a runner, run in chunks on the bulk lane, its
results written to the store, and then marked as done, in this order. Redis holds counters and names only.
"""
