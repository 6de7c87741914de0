"""Chat rooms: webhooks as Slack has them, and the robots of DingTalk and WeCom groups.

Rules:
- The robots answer 200 to whatever they refuse, and say in the body what they think of it.
- What is too long for a room is cut, not refused.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from stream.core.delivery import Outcome, of_code
from stream.core.signing import dingtalk_url
from stream.deliver.http import SHOWN_CHARS, Post
from stream.deliver.sender import Sent
from stream.deliver.writing import WritingError, cut_to_bytes, shortened
from stream.pages import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.core.messages import Message
    from stream.deliver.config import Address

MOST_BYTES = {"dingtalk": 18_000, "wecom": 4_000, "slack": 12_000}
"""Of a text: WeCom takes 4,096 bytes of Markdown, DingTalk 20,000 with all around it."""
COLOURS = {"resolved": "#1a7f37", "warning": "#d29922", "critical": "#cf222e"}


class CodeAnswer(msgspec.Struct):
    """What a robot answers."""

    errcode: int
    errmsg: str = ""


_decode_code = msgspec.json.Decoder(CodeAnswer).decode


class ChatSender:
    """Sends to a chat room."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._kind = address.target.kind
        self._post = Post(address.target.timeout_s, address.tls, (address.url, address.secret or ""))

    async def start(self, on: Mapping[str, bytes]) -> None:
        """Nothing is held for firing here."""

    async def send(self, message: Message) -> Sent:
        """Sends a message."""
        try:
            body = msgspec.json.encode(self.body(message))
        except WritingError as error:
            return Sent(Outcome("hopeless", f"its template does not take it: {error}"))
        url = self._address.url
        if self._kind == "dingtalk":
            url = dingtalk_url(url, self._address.secret, time.time_ns() // 1_000_000)
        answer = await self._post.send(url, body, {"content-type": "application/json"})
        if answer.outcome.kind == "delivered" and self._kind != "slack":
            return Sent(_of_robot(answer.body))
        return Sent(answer.outcome)

    def body(self, message: Message) -> dict[str, Any]:
        """What is sent.

        Raises:
            WritingError: the template does not take the message.
        """
        texts = self._address.texts
        assert texts.body is not None
        headline = texts.writer.line(texts.subject, message)
        text = texts.writer.write(texts.body, message)
        most = MOST_BYTES[self._kind]
        if self._kind == "slack":
            colour = COLOURS["resolved" if message.state == "resolved" else message.severity]
            shown = {
                "color": colour,
                "fallback": headline,
                "text": cut_to_bytes(text, most),
                "mrkdwn_in": ["text"],
            }
            return {
                "text": cut_to_bytes(headline, most),
                "attachments": [shown],
                "unfurl_links": False,
                "unfurl_media": False,
            }
        whole = cut_to_bytes(f"**{headline}**\n\n{text}", most)
        if self._kind == "wecom":
            return {"msgtype": "markdown", "markdown": {"content": whole}}
        return {"msgtype": "markdown", "markdown": {"title": shortened(headline, 100), "text": whole}}

    async def again(self) -> None:
        """Nothing is repeated."""

    def gave_up(self, message: Message) -> str:
        """Nothing is held."""
        del message
        return ""

    async def close(self) -> None:
        """Ends the connections."""
        await self._post.close()


def _of_robot(body: bytes) -> Outcome:
    try:
        answer = _decode_code(body)
    except msgspec.MsgspecError:
        return Outcome("failed", "its answer has no errcode, so it is no robot's")
    return of_code(answer.errcode, shortened(" ".join(visible(answer.errmsg).split()), SHOWN_CHARS))
