"""Keys on the command line: making one, and sending one."""

from api.access.keys import digest_of, new_key


def create(tenant: str, name: str) -> int:
    """Print a fresh key, which is shown this once, and what goes into the keys file.

    Returns:
        0.
    """
    key = new_key()
    print(f"# The key, for its holder. It is shown this once:\n{key}\n")
    print(
        "# For the file of MILLRACE_KEYS_FILE, which has the hash only; a tenant that is there gets one more of `keys`:"
    )
    print(f"tenants:\n  - name: {tenant}\n    keys:\n      - name: {name}")
    print(f"        sha256: {digest_of(key.encode()).hex()}")
    return 0


def first_key(listed: str | None) -> str | None:
    """The first of the keys that MILLRACE_API_KEY lists, or None."""
    return (listed or "").split(",")[0].strip() or None


def key_header(key: str | None) -> dict[str, str]:
    """What a request with a key brings."""
    return {} if key is None else {"authorization": f"Bearer {key}"}
