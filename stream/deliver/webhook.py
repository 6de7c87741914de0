"""JSON to an address: our own form, CloudEvents 1.0, or what the operator's template makes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from stream.core.delivery import Outcome
from stream.core.notify_file import Webhook
from stream.core.signing import webhook_headers
from stream.deliver.http import Post
from stream.deliver.sender import Sent
from stream.deliver.writing import WritingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.core.messages import Message
    from stream.deliver.config import Address


class WebhookSender:
    """Sends to a webhook.

    Args:
        address: it.
        source: of CloudEvents, a URI reference.
    """

    def __init__(self, address: Address, source: str) -> None:
        assert isinstance(address.target, Webhook)
        self._target = address.target
        self._address = address
        self._source = source
        self._post = Post(address.target.timeout_s, address.tls, (address.url, *address.headers.values()))

    async def start(self, on: Mapping[str, bytes]) -> None:
        """Nothing is held for firing here."""

    async def send(self, message: Message) -> Sent:
        """Sends a message."""
        try:
            content_type, body = self.body(message)
        except WritingError as error:
            return Sent(Outcome("hopeless", f"its template does not take it: {error}"))
        ours = webhook_headers(self._address.signing, message.id, int(time.time()), body)
        headers = {**self._address.headers, "content-type": content_type, **ours}
        answer = await self._post.send(self._address.url, body, headers)
        return Sent(answer.outcome)

    def body(self, message: Message) -> tuple[str, bytes]:
        """What is sent: its media type, and the bytes.

        Raises:
            WritingError: the template does not take the message.
        """
        own = self._address.texts.body
        if own is not None:
            text = self._address.texts.writer.write(own, message)
            data: Any = msgspec.Raw(text.encode())
        else:
            data = message
        if self._target.envelope == "plain":
            return "application/json", msgspec.json.encode(data)
        event = {
            "specversion": "1.0",
            "id": message.id,
            "source": self._source,
            "type": f"reviewpulse.{'incident' if message.incident else 'alert'}.{message.state}",
            "time": message.at,
            "datacontenttype": "application/json",
            "data": data,
        }
        if message.alert is not None:
            event["subject"] = message.alert.product_id
        return "application/cloudevents+json; charset=utf-8", msgspec.json.encode(event)

    async def again(self) -> None:
        """Nothing is repeated."""

    def gave_up(self, message: Message) -> str:
        """Nothing is held."""
        del message
        return ""

    async def close(self) -> None:
        """Ends the connections."""
        await self._post.close()
