"""The receiver of a job's events, as a request names it."""

from api.bulk.ingest_options import Webhook
from shared.bulk.jobs import WebhookEndpoint
from shared.bulk.webhooks import WebhookRegistry
from shared.errors import Conflict, InvalidRequest


async def receiver_of(webhook: Webhook, registry: WebhookRegistry, tenant: str | None) -> WebhookEndpoint:
    """The endpoint that gets the events; one of the job's own (`inline`) is not kept yet.

    Args:
        webhook: As the request has it.
        registry: Of all endpoints.
        tenant: Who asks: another's endpoint is none; None where no keys are asked for.

    Raises:
        NotStored: There is no such endpoint.
        Conflict: It is disabled.
        InvalidRequest: The URL or the secret is none.
    """
    if webhook.endpoint is None:
        try:
            return registry.new(
                webhook.url or "", secret=webhook.secret, events=webhook.events, inline=True, tenant=tenant
            )
        except InvalidRequest as err:
            raise InvalidRequest(err.message, param="webhook") from err
    endpoint = await registry.get(webhook.endpoint, tenant=tenant)
    if endpoint.disabled:
        raise Conflict(f"the webhook endpoint is disabled: {endpoint.disabled}", param="webhook")
    return endpoint
