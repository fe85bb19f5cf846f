"""The command `millrace models`: listing them, mirroring one, checking a mirror."""

import argparse
import sys
from pathlib import Path

HUB = "hub"

_PULL = """\
The folder gets the model's weights (safetensors only), tokenizer and configuration at one revision, and a manifest with the
commit, sizes and hashes. It appears when it is whole; an interrupted pull goes on where it stood. Serve it with
MILLRACE_MODEL=FOLDER, or as a `source` in models.yaml.

The hub is HF_ENDPOINT, the token HF_TOKEN. Object stores read their clients' own variables (AWS_ACCESS_KEY_ID ...)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command understands."""
    actions = parser.add_subparsers(dest="action", metavar="action")
    actions.add_parser("list", help="list the configured models (default)")
    actions.add_parser("fetch", help="fetch the configured models' files into the hub's cache")
    pull = actions.add_parser(
        "pull",
        help="mirror a model into a folder",
        epilog=_PULL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pull.add_argument("name", metavar="NAME", help="on the hub, such as BAAI/bge-m3; elsewhere what to call it")
    pull.add_argument("--to", required=True, type=Path, metavar="FOLDER", help="where it goes")
    pull.add_argument(
        "--from",
        dest="source",
        default=HUB,
        metavar="WHERE",
        help="hub (default), the model's folder, or its URL: s3://bucket/models/bge-m3, or another that fsspec knows",
    )
    pull.add_argument("--revision", help="branch, tag or commit; elsewhere than on the hub the manifest has to say it")
    verify = actions.add_parser("verify", help="compare a mirror's files with its manifest")
    verify.add_argument("folder", type=Path, metavar="FOLDER", help="what was pulled")


def models(options: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        The exit status.
    """
    match options.action:
        case "pull":
            return _pull(options)
        case "verify":
            return _verify(options.folder)
        case "fetch":
            from millrace.fetch import fetch_models
            from shared.settings import Settings, load_or_exit

            return fetch_models(load_or_exit(Settings))
        case _:
            from millrace.models import list_models
            from shared.settings import load_or_exit
            from workers.settings import WorkerSettings

            return list_models(load_or_exit(WorkerSettings))


def _pull(options: argparse.Namespace) -> int:
    from millrace.mirror.hub_source import HubSource
    from millrace.mirror.pull import pull
    from millrace.mirror.source import CannotPull
    from millrace.mirror.store_source import StoreSource
    from shared.logging import configure_logging

    folder: Path = options.to.expanduser().resolve()
    try:
        if options.source == HUB:
            configure_logging("info", "text")  # a busy hub makes one wait, and one should know what for
            pulled = pull(HubSource(options.name, options.revision), options.name, folder)
        else:
            pulled = pull(StoreSource(options.source, options.revision), options.name, folder)
    except CannotPull as err:
        return _fail(str(err))
    manifest = pulled.manifest
    revision = f" at {manifest.revision}" if manifest.revision else ""
    verb = "is in" if pulled.is_new else "was in"
    print(f"{manifest.name}{revision} {verb} {folder}: {len(manifest.files)} files, {_megabytes(manifest.size)}")
    return 0


def _verify(folder: Path) -> int:
    from workers.manifest import MANIFEST, BadManifest, read_manifest, wrong_contents

    try:
        manifest = read_manifest(folder)
    except BadManifest as err:
        return _fail(str(err))
    if manifest is None:
        return _fail(f"{folder} has no {MANIFEST}; `millrace models pull` writes one")
    faults = list(wrong_contents(folder, manifest))
    for fault in faults:
        print(fault)
    if faults:
        return _fail(f"{folder} is not what was mirrored; remove it and pull it again")
    print(f"{folder} is {manifest.name} as it was mirrored: {len(manifest.files)} files, {_megabytes(manifest.size)}")
    return 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _fail(sentence: str) -> int:
    sys.stderr.write(f"millrace: {sentence}\n")
    return 1
