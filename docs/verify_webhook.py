"""A receiver that believes only what Reviewpulse has signed, and acts on each message once.

Needs nothing but Python. Run it with the secret of your [[target]], and point the target's url at it:

    HOOK_SECRET=whsec_... python docs/verify_webhook.py 8000
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TOLERANCE_S = 300
"""An older message may be one that somebody recorded and plays again. Each attempt is signed anew."""
MOST_BYTES = 1_000_000
REMEMBERED = 10_000


def is_genuine(secret: str, headers: Mapping[str, str], body: bytes, now_s: float) -> bool:
    """Whether a message is signed with the secret, and fresh; the body is the bytes as received."""
    id_, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not at.isdigit() or abs(now_s - int(at)) > TOLERANCE_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    digest = hmac.new(key, f"{id_}.{at}.".encode() + body, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    # Several signatures while a secret is being changed; compared in constant time.
    given = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(each, expected) for each in given)


class Once:
    """Which messages were dealt with: a message whose answer was lost comes again, with the same id."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()

    def is_new(self, id_: str) -> bool:
        """Whether it was not dealt with before. Yours would be a table with a unique key."""
        if id_ in self._seen:
            return False
        self._seen[id_] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return True


class Receiver(BaseHTTPRequestHandler):
    """Answers 401 to what is not genuine, 204 to the rest; prints each message once."""

    secret = os.environ.get("HOOK_SECRET", "")
    once = Once()

    def do_POST(self) -> None:
        """Takes a message."""
        length = self.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MOST_BYTES:
            self._answer(413)
            return
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not is_genuine(self.secret, headers, body, time.time()):
            self._answer(401)
            return
        if self.once.is_new(headers["webhook-id"]):
            message = json.loads(body)
            message = message.get("data", message)  # of a CloudEvent the data
            print(message["state"], message["severity"], message["id"], flush=True)
        self._answer(204)  # also to a repeat: else it would come again

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


if __name__ == "__main__":
    if not Receiver.secret:
        sys.exit("Set HOOK_SECRET to the secret of your [[target]].")
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
