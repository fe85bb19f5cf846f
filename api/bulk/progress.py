"""How long bulk jobs have stood still."""

from collections.abc import Collection

from shared.bulk.jobs import Job


def stalled_s(jobs: Collection[Job], now: float) -> float:
    """How long the job has gone without progress that has waited longest, in seconds; 0 where all get on.

    A job that waits for its own documents does not stand still, nor does one whose turn comes after those of a higher
    priority.

    Args:
        jobs: All that have not ended.
        now: Unix seconds.
    """
    at_work = [job for job in jobs if job.state.runs and job.segments_done < job.segments]
    first = max((job.spec.priority for job in at_work), default=0)
    since = [_moved_at(job, now) for job in at_work if job.spec.priority == first]
    since += [_moved_at(job, now) for job in jobs if not job.state.runs]
    return max(0.0, now - min(since, default=now))


def _moved_at(job: Job, now: float) -> float:
    """When it last got on: a segment was done, documents came, or its state changed."""
    entered_at = job.entered_at.get(str(job.state), now)
    return max(entered_at, job.rated_at, job.appended_at) if job.state.runs else entered_at
