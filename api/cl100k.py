"""Token ids of OpenAI's vocabulary cl100k_base as texts: what LangChain's client for OpenAI sends in the place of texts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from shared.errors import UnsupportedByModel
from shared.model_config import ConfigurationError

if TYPE_CHECKING:
    from tiktoken import Encoding

_NAME = "cl100k_base"
_WANTS = "a model in models.yaml has `token_input: cl100k`, which needs"


class Cl100k:
    """OpenAI's table."""

    def __init__(self, encoding: "Encoding") -> None:
        self._encoding = encoding

    @classmethod
    def load(cls) -> Self:
        """Read the table from tiktoken's cache, or download it.

        Raises:
            ConfigurationError: tiktoken is not installed, or the table is neither here nor there.
        """
        try:
            import tiktoken  # an extra: most deployments need none
        except ImportError as err:
            raise ConfigurationError(f"{_WANTS} tiktoken: pip install 'millrace[cl100k]'") from err
        try:
            return cls(tiktoken.get_encoding(_NAME))
        except (OSError, ValueError) as err:
            how = (
                "without internet, set TIKTOKEN_CACHE_DIR to a folder that has it (docs/models.md says how to fill one)"
            )
            raise ConfigurationError(
                f"{_WANTS} the table {_NAME}, and tiktoken could not get it: {err}; {how}"
            ) from err

    def texts(self, token_ids: Sequence[Sequence[int]], param: str) -> list[str]:
        """The text of each list of ids. Of a character that a list has half of there is a replacement character.

        Args:
            token_ids: OpenAI's.
            param: The request's field that has them.

        Raises:
            UnsupportedByModel: There is no such id.
        """
        return [self._text(ids, index, param) for index, ids in enumerate(token_ids)]

    def _text(self, ids: Sequence[int], index: int, param: str) -> str:
        try:
            return self._encoding.decode(ids)
        except KeyError as err:
            message = f"`{param}[{index}]` has a token id that OpenAI's {_NAME}, which this model takes, has not"
            raise UnsupportedByModel(message, param=param) from err
