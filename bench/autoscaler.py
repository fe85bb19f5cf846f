"""KEDA and the horizontal pod autoscaler, as far as the chart asks for them. Pure: the clock is an argument.

KEDA polls the triggers: any of them above its activation wakes the target from zero, and when none has been for the cooldown
it puts the target back to its least number. In between the autoscaler (HPA) asks for each trigger's value and wants
`ceil(value / target)` replicas, the most of all triggers; windows and policies then slow it down. Sources: KEDA's
`pkg/scaling/executor/scale_scaledobjects.go`, and Kubernetes' `pkg/controller/podautoscaler/horizontal.go`.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: The HPA leaves replicas alone while the value is so near to its target.
TOLERANCE = 0.1
#: How often the HPA looks, in seconds.
SYNC_S = 15.0


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger of a ScaledObject."""

    kind: str
    #: Value that each replica should have of it.
    target: float
    #: Above this the scaled thing is awake.
    activation: float
    metadata: Mapping[str, str]

    @property
    def key(self) -> str:
        """What it asks for: the name of a list, or a query."""
        return self.metadata.get("listName") or self.metadata["query"]


@dataclass(frozen=True, slots=True)
class Scaling:
    """A ScaledObject."""

    target: str
    least: int
    most: int
    polling_s: float
    cooldown_s: float
    triggers: Sequence[Trigger]
    up_window_s: float
    up_percent: float
    up_period_s: float
    down_window_s: float
    down_pods: int
    down_period_s: float
    fallback_failures: int | None = None
    fallback_replicas: int = 0


def scaling_of(document: Mapping[str, Any]) -> Scaling:
    """Read a rendered ScaledObject.

    Raises:
        ValueError: It asks for something that is not known here.
    """
    spec = document["spec"]
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    (up,), (down,) = behaviour["scaleUp"]["policies"], behaviour["scaleDown"]["policies"]
    if (up["type"], down["type"]) != ("Percent", "Pods"):
        raise ValueError(f"policies of types {up['type']} and {down['type']} are not known here")
    fallback = spec.get("fallback")
    return Scaling(
        target=spec["scaleTargetRef"]["name"],
        least=spec["minReplicaCount"],
        most=spec["maxReplicaCount"],
        polling_s=spec["pollingInterval"],
        cooldown_s=spec["cooldownPeriod"],
        triggers=[_trigger(trigger) for trigger in spec["triggers"]],
        up_window_s=behaviour["scaleUp"]["stabilizationWindowSeconds"],
        up_percent=up["value"],
        up_period_s=up["periodSeconds"],
        down_window_s=behaviour["scaleDown"]["stabilizationWindowSeconds"],
        down_pods=down["value"],
        down_period_s=down["periodSeconds"],
        fallback_failures=fallback["failureThreshold"] if fallback else None,
        fallback_replicas=fallback["replicas"] if fallback else 0,
    )


def _trigger(trigger: Mapping[str, Any]) -> Trigger:
    metadata = trigger["metadata"]
    if trigger["metricType"] != "AverageValue":
        raise ValueError(f"metricType {trigger['metricType']} is not known here")
    match trigger["type"]:
        case "redis" | "redis-sentinel":
            return Trigger(
                "redis", float(metadata["listLength"]), float(metadata.get("activationListLength", 0)), metadata
            )
        case "prometheus":
            return Trigger(
                "prometheus", float(metadata["threshold"]), float(metadata.get("activationThreshold", 0)), metadata
            )
        case other:
            raise ValueError(f"triggers of type {other} are not known here")


class Autoscaler:
    """Both controllers of one ScaledObject."""

    def __init__(self, scaling: Scaling, *, sync_s: float = SYNC_S) -> None:
        """Know what is wanted.

        Args:
            scaling: The ScaledObject.
            sync_s: How often the HPA looks, in seconds.
        """
        self._scaling = scaling
        self._sync_s = sync_s
        self._active_at = -math.inf
        self._polled_at = -math.inf
        self._synced_at = -math.inf
        self._failures = 0
        #: What was recommended when, and what was changed when.
        self._recommended: deque[tuple[float, int]] = deque()
        self._changed: deque[tuple[float, int]] = deque()

    def is_due(self, now: float) -> bool:
        """Whether either controller looks now."""
        return now - self._polled_at >= self._scaling.polling_s or now - self._synced_at >= self._sync_s

    def replicas(self, values: Mapping[str, float] | None, current: int, now: float) -> int:
        """How many replicas there should be from now on.

        Args:
            values: The triggers' values by their keys; None when they cannot be asked.
            current: How many there are, ready or not.
            now: A monotonic clock, in seconds.
        """
        wanted = current
        if now - self._polled_at >= self._scaling.polling_s:
            self._polled_at = now
            wanted = self._poll(values, current, now)
        if wanted == current > 0 and now - self._synced_at >= self._sync_s:
            self._synced_at = now
            wanted = self._sync(values, current, now)
            self._changed.append((now, wanted - current))
        return wanted

    def _poll(self, values: Mapping[str, float] | None, current: int, now: float) -> int:
        """KEDA: from zero and to zero."""
        scaling = self._scaling
        if values is None:
            self._failures += 1
            if scaling.fallback_failures is not None and self._failures > scaling.fallback_failures:
                return scaling.fallback_replicas
            return current
        self._failures = 0
        if any(values[trigger.key] > trigger.activation for trigger in scaling.triggers):
            self._active_at = now
            return max(current, 1, scaling.least)
        if current > scaling.least == 0 and now - self._active_at >= scaling.cooldown_s:
            self._recommended.clear()
            return 0
        return max(current, scaling.least)

    def _sync(self, values: Mapping[str, float] | None, current: int, now: float) -> int:
        """The HPA, which exists while there are replicas."""
        if values is None:
            return current
        scaling = self._scaling
        raw = max(wanted_replicas(values[trigger.key], trigger.target, current) for trigger in scaling.triggers)
        bounded = min(scaling.most, max(scaling.least, 1, raw))
        self._recommended.append((now, bounded))
        longest_s = max(scaling.up_window_s, scaling.down_window_s)
        while self._recommended and now - self._recommended[0][0] > longest_s:
            self._recommended.popleft()
        steady = self._stabilised(bounded, current, now)
        if steady > current:
            start = current - sum(change for change in self._within(scaling.up_period_s, now) if change > 0)
            return min(steady, max(current, math.ceil(start * (1 + scaling.up_percent / 100))))
        if steady < current:
            start = current - sum(change for change in self._within(scaling.down_period_s, now) if change < 0)
            return max(steady, min(current, start - scaling.down_pods))
        return current

    def _stabilised(self, bounded: int, current: int, now: float) -> int:
        """The least that was recommended lately for more, the most for less."""
        scaling = self._scaling
        up = min([bounded, *(what for at, what in self._recommended if now - at <= scaling.up_window_s)])
        down = max([bounded, *(what for at, what in self._recommended if now - at <= scaling.down_window_s)])
        if current < up:
            return up
        return min(current, down)

    def _within(self, period_s: float, now: float) -> list[int]:
        """Changes of the last seconds."""
        return [change for at, change in self._changed if now - at < period_s]


def wanted_replicas(value: float, target: float, current: int) -> int:
    """What the HPA wants for a trigger's value, of type AverageValue."""
    if current and abs(value / (target * current) - 1) <= TOLERANCE:
        return current
    return math.ceil(value / target)
