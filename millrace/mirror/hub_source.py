"""Mirroring from the model hub, or from a server that speaks its API (HF_ENDPOINT)."""

import sys
from importlib.util import find_spec
from pathlib import Path

from millrace.mirror.source import CannotPull, Listing, RemoteFile
from shared.errors import first_line
from workers import hub
from workers.model_files import is_needed


class HubSource:
    """A repository at one of its revisions; the token, if one is needed, is HF_TOKEN or that of `hf auth login`."""

    def __init__(self, repository: str, revision: str | None) -> None:
        """Name it.

        Args:
            repository: `organisation/name`.
            revision: Branch, tag or commit; the default branch when None.

        Raises:
            CannotPull: The hub's library is not installed.
        """
        if find_spec("huggingface_hub") is None:
            raise CannotPull("pulling from the hub needs the package huggingface-hub: pip install huggingface-hub")
        from huggingface_hub import constants

        self._repository, self._revision = repository, revision
        self.address = f"{constants.ENDPOINT}/{repository}"

    def listing(self) -> Listing:
        """What the repository has, at the commit that its revision means now."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        try:
            found = hub.patiently(
                lambda: HfApi().model_info(self._repository, revision=self._revision, files_metadata=True)
            )
        except GatedRepoError as err:
            raise CannotPull(f"{self.address} is gated: accept its terms there, and set HF_TOKEN") from err
        except RepositoryNotFoundError as err:
            raise CannotPull(f"{self.address} is not there, or is private and needs HF_TOKEN") from err
        except RevisionNotFoundError as err:
            raise CannotPull(f"{self.address} has no revision {self._revision}") from err
        except (OSError, ValueError) as err:
            raise CannotPull(f"{self.address} cannot be asked: {first_line(err)}") from err
        if not found.sha:
            raise CannotPull(f"{self.address} does not say which commit it has")
        files = {
            file.rfilename: RemoteFile(
                size=(file.lfs.size if file.lfs else file.size) or 0,
                sha256=file.lfs.sha256 if file.lfs else "",
                git_blob="" if file.lfs else file.blob_id or "",
            )
            for file in found.siblings or []
            if is_needed(file.rfilename)
        }
        return Listing(origin=self.address, revision=found.sha, version=found.sha, files=files)

    def fetch(self, listing: Listing, folder: Path) -> None:
        """Bring what is not there yet, by the hub's own client."""
        from huggingface_hub.utils import disable_progress_bars

        if not sys.stderr.isatty():
            disable_progress_bars()
        try:
            hub.fetch(self._repository, listing.revision, folder)
        except OSError as err:
            raise CannotPull(f"{self.address} cannot be fetched: {first_line(err)}") from err
