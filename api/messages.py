"""A conversation as one input to embed: what the system says is the instruction, what the user says the input."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from api import wire
from api.dialect import Answer, Context, Job
from api.embeddings import VectorFields
from api.fields import Documented, Listed, Several, either
from api.inputs import ContentInput, MixedInput
from api.places import listed
from api.truncation import TruncationFields
from shared.errors import ContradictoryFields
from shared.jobs import EmbedRequest

#: Who may speak, in which order. The assistant is there to be told where it would begin, and says nothing.
_ROLES = (("user",), ("user", "assistant"), ("system", "user"), ("system", "user", "assistant"))


class Message(ContentInput):
    """One turn of a conversation."""

    model_config = either(
        {"properties": {"role": {"enum": ["system", "assistant"]}}},
        {"properties": {"content": {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array"}]}}},
    )

    content: str | Several[MixedInput] = Field(description="A text, or its parts.")
    role: Annotated[str, Documented(enum=["system", "user", "assistant"])] = Field(description="Who speaks.")


class MessagesBody(TruncationFields, VectorFields):
    """Request of `POST /v1/embeddings` with `messages`: one input, made of the user's message.

    A model whose input is a chat template (Qwen3-VL-Embedding) takes the system's message as its instruction and may read a
    text and an image in the user's. For other models the system's words are a prompt in front of the text.
    """

    messages: Annotated[Listed[Message], Documented(minItems=1, maxItems=3)] = Field(
        description="Perhaps a message of the `system`, one of the `user`, perhaps an empty one of the `assistant`."
    )
    model: str | None = Field(None, description="Name of the model; the default model when absent.")
    chat_template: None = Field(None, description="Not served: a model's own template is used.")
    chat_template_kwargs: None = Field(None, description="Not served, for the same reason.")


def parse(body: MessagesBody, context: Context) -> Job:
    """The job of a body.

    Raises:
        ContradictoryFields: It is another conversation than one input needs, or options contradict each other.
    """
    instruction, text, image = one_input(body.messages)
    request = EmbedRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        texts=[text],
        normalize=body.is_normalized(),
        dimensions=body.dimensions or None,
        prompt=instruction,
        precisions=[body.vector_format().precision],
        **body.cutting(),
    )
    return Job(model=body.model, requests=[request], place=listed("messages", None), images=image and [image])


def render(body: MessagesBody, answer: Answer) -> Any:
    """The one vector."""
    (row,) = body.vector_format().rows(answer.output)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": row}],
        **wire.envelope("embd", "list", body.model or answer.model, answer.tokens),
    }


def one_input(messages: Sequence[Message]) -> tuple[str | None, str, str | None]:
    """The instruction, if there is one, and the text and the reference of the image of the input.

    Raises:
        ContradictoryFields: It is another conversation than one input needs, or there is nothing in it.
    """
    if tuple(message.role for message in messages) not in _ROLES:
        raise ContradictoryFields(
            "`messages` must be one of the user, perhaps after one of the system and before one of the assistant",
            param="messages",
        )
    said = {message.role: message.text_and_image("messages") for message in messages}
    instruction, picture = said.get("system", (None, None))
    if picture is not None or any(said.get("assistant", ())):
        raise ContradictoryFields(
            "in `messages` only the user has an image, and the assistant says nothing", param="messages"
        )
    text, image = said["user"]
    wire.refuse_empty([text], "messages", [image])
    return instruction, text, image
