"""Types of fields that several requests of bulk work have: what is checked with a sentence of its own is documented here."""

from typing import Annotated

from api.fields import Documented
from shared.bulk import signing
from shared.bulk.events import EventType
from shared.bulk.webhook_urls import LONGEST_URL

#: Where events are sent (`shared.bulk.webhook_urls`).
WebhookUrl = Annotated[str, Documented(format="webhook-url", maxLength=LONGEST_URL)]
#: What they are signed with (`shared.bulk.signing`).
WebhookSecret = Annotated[str, Documented(pattern=signing.SECRET_PATTERN)]
#: What they say (`shared.bulk.events`).
EventName = Annotated[str, Documented(enum=[str(kind) for kind in EventType])]
