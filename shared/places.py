"""Places of inputs in a request, and what they are called where its sender's words for them are not known."""

#: The place of a rerank request's query, which is none among its inputs.
QUERY = -1


def called(index: int) -> str:
    """What the input at a place is called: sentences about one begin with it.

    Args:
        index: Its position among the request's inputs, or `QUERY`.
    """
    return "the query" if index == QUERY else f"input {index}"
