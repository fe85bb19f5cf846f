"""Keys files, and the keys that they know the hashes of."""

import hashlib
from pathlib import Path
from typing import Any

import yaml


def sha256(key: str) -> str:
    """What a keys file has of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def tenant(name: str, *keys: str, **declared: Any) -> dict[str, Any]:
    """A tenant whose keys are called `key-1` and so on."""
    entries = [{"name": f"key-{number}", "sha256": sha256(key)} for number, key in enumerate(keys, 1)]
    return {"name": name, "keys": entries, **declared}


def write_keys_file(path: Path, *tenants: dict[str, Any]) -> Path:
    """Write one as an editor does that is careful: another file takes the place of the old one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(yaml.safe_dump({"tenants": list(tenants)}))
    fresh.replace(path)
    return path
