"""Which files of a model's folder or repository are needed to run it."""

from fnmatch import fnmatchcase

#: Of pickled files only bge-m3's two small heads and the weights of small modules behind the first one (`2_Dense`), which
#: many repositories have in no other form; both are loaded as weights only.
#: `artifact.metadata` is Stanford's ColBERT's: without it the lengths of queries and documents are guessed.
NEEDED = (
    *("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "artifact.metadata"),
    *("sparse_linear.pt", "colbert_linear.pt", "[1-9]*_*/pytorch_model.bin"),
    # Whoever hands a model on hands its licence on too.
    *("LICENSE*", "NOTICE*"),
)
#: Exports for other engines, with tokenizers of their own, and what tools keep in hidden folders.
NOT_NEEDED = ("onnx/*", "openvino/*", ".*")


def is_needed(path: str) -> bool:
    """Whether a file is fetched and mirrored.

    Args:
        path: Relative to the model's folder, with `/`.
    """
    return any(fnmatchcase(path, pattern) for pattern in NEEDED) and not any(
        fnmatchcase(path, pattern) for pattern in NOT_NEEDED
    )
