"""The rule file and what promtool says of it: its syntax, and each alert's histories, one of which fires it."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.monitoring.tools import Tools

ROOT = Path(__file__).parents[2]
RULES = ROOT / "helm" / "millrace" / "files" / "prometheus-rules.yaml"
CASES = Path(__file__).parent / "cases.yaml"
#: promtool is done within a second or two.
_TIMEOUT_S = 120.0


def loaded() -> dict[str, Any]:
    """The rule file."""
    rules: dict[str, Any] = yaml.safe_load(RULES.read_text())
    return rules


def check_syntax(tools: Tools) -> str:
    """Expressions and templates; what promtool says."""
    return promtool(tools, "check", "rules", RULES)


def check_cases(tools: Tools, folder: Path) -> str:
    """Each alert's histories; what promtool says.

    Args:
        tools: Where promtool is.
        folder: For what it reads.
    """
    rules = loaded()
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                # promtool compares annotations letter by letter: the short one, which has the values, is compared.
                rule["annotations"] = {"summary": rule["annotations"]["summary"]}
    severities = {
        rule["alert"]: rule["labels"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule
    }
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules, sort_keys=False))
    tests = [
        _test(alert, outcome, case, severities[alert])
        for alert, cases in yaml.safe_load(CASES.read_text()).items()
        for outcome, case in cases.items()
    ]
    file = folder / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}))
    return f"{promtool(tools, 'test', 'rules', file).strip()}: {len(tests)} histories of {len(severities)} alerts"


def _test(alert: str, outcome: str, case: dict[str, Any], severity: dict[str, str]) -> dict[str, Any]:
    fired = {"exp_labels": {**severity, **case.get("labels", {})}, "exp_annotations": {"summary": case.get("summary")}}
    return {
        "name": f"{alert} {outcome}",
        "interval": "1m",
        "input_series": [
            {"series": series, "values": _written_out(values)} for series, values in case["series"].items()
        ],
        "alert_rule_test": [
            {"eval_time": case["at"], "alertname": alert, "exp_alerts": [fired] if outcome.startswith("fires") else []}
        ],
    }


def _written_out(values: str) -> str:
    """What stays the same, value by value: promtool takes 0x20 for a number, and knows no NaNx20."""
    return re.sub(r"(?<!\S)(\d+|NaN)x(\d+)", lambda found: " ".join([found[1]] * (int(found[2]) + 1)), values)


def promtool(tools: Tools, *arguments: str | Path) -> str:
    """Run it; what it says.

    Raises:
        AssertionError: It found fault.
    """
    finished = subprocess.run(
        [tools.path("promtool"), *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    if finished.returncode != 0:
        raise AssertionError(f"promtool {arguments[0]} {arguments[1]}:\n{finished.stdout}{finished.stderr}")
    return finished.stdout
