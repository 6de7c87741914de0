"""E-mail by SMTP: plain text and HTML in one.

Rules:
- A repeat has the same ``Message-ID``, so that a mail server can tell; a thread's mails refer to one another.
- Without TLS no password is sent, unless the server is on this machine. Certificates are verified.
- What the server refuses for good (5xx) is hopeless, but for a login: passwords are mended under way. What
  only some of the recipients got becomes a dead letter that says who did not.
- The library is synchronous, so each attempt has a thread; one that takes too long loses its connection.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import TYPE_CHECKING

from stream.core.delivery import DELIVERED, Outcome
from stream.core.notify_file import Email
from stream.deliver.sender import Sent
from stream.deliver.writing import WritingError, shortened
from stream.pages import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.core.messages import Message
    from stream.deliver.config import Address

PORTS = {"starttls": 587, "tls": 465, "none": 25}
SHOWN_CHARS = 160


class MailSender:
    """Sends by a mail server."""

    def __init__(self, address: Address) -> None:
        assert isinstance(address.target, Email)
        self._target = address.target
        self._address = address

    async def start(self, on: Mapping[str, bytes]) -> None:
        """Nothing is held for firing here."""

    async def send(self, message: Message) -> Sent:
        """Sends a message."""
        try:
            mail = self.mail(message)
        except WritingError as error:
            return Sent(Outcome("hopeless", f"its template does not take it: {error}"))
        attempt = _Attempt(self._target, self._address.secret, self._address.tls)
        sending = asyncio.ensure_future(asyncio.to_thread(attempt.send, mail))
        try:
            async with asyncio.timeout(self._target.timeout_s):
                return Sent(await asyncio.shield(sending))
        except TimeoutError:
            return Sent(Outcome("failed", f"it did not take it within {self._target.timeout_s:g} s"))
        finally:
            attempt.give_up()  # ends the thread, where it is still at it

    def mail(self, message: Message) -> EmailMessage:
        """What is sent.

        Raises:
            WritingError: a template does not take the message.
        """
        target, texts = self._target, self._address.texts
        assert texts.body is not None
        domain = parseaddr(target.from_)[1].rpartition("@")[2]
        mail = EmailMessage()
        mail["Subject"] = texts.writer.line(texts.subject, message)
        mail["From"] = target.from_
        mail["To"] = ", ".join(target.recipients)
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = f"<{message.id}.{target.name}@{domain}>"
        # Nobody has sent this one: mail programs put together what refers to the same.
        mail["References"] = f"<{message.lane}.{target.name}.thread@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(texts.writer.write(texts.body, message))
        mail.add_alternative(texts.page_writer.write(texts.page, message), subtype="html")
        return mail

    async def again(self) -> None:
        """Nothing is repeated."""

    def gave_up(self, message: Message) -> str:
        """Nothing is held."""
        del message
        return ""

    async def close(self) -> None:
        """There is no connection between mails."""


class _Attempt:
    """One connection and one mail, in a thread of its own."""

    def __init__(self, target: Email, password: str | None, tls: ssl.SSLContext) -> None:
        self._target = target
        self._password = password
        self._tls = tls
        self._server: smtplib.SMTP | None = None

    def send(self, mail: EmailMessage) -> Outcome:
        """Sends a mail; whatever goes wrong is an outcome."""
        try:
            with self._connected() as server:
                self._server = server
                if self._target.user is not None and self._password is not None:
                    server.login(self._target.user, self._password)
                refused = server.send_message(mail)
        except smtplib.SMTPException as error:
            return self._refused(error)
        except ssl.SSLCertVerificationError as error:
            return Outcome("failed", f"its certificate is not trusted: {error.verify_message}")
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or type(error).__name__
            return Outcome("failed", f"cannot talk to {self._target.host}: {said}")
        if refused:
            who = ", ".join(f"{address} ({_said(code, text)})" for address, (code, text) in refused.items())
            return Outcome("hopeless", f"the others got it, but it refuses {visible(who)}")
        return DELIVERED

    def give_up(self) -> None:
        """Breaks the connection off, where there is one."""
        server = self._server
        if server is not None and server.sock is not None:
            try:
                server.sock.shutdown(2)
            except OSError:
                return

    def _connected(self) -> smtplib.SMTP:
        target = self._target
        port = target.port or PORTS[target.tls]
        if target.tls == "tls":
            return smtplib.SMTP_SSL(target.host, port, timeout=target.timeout_s, context=self._tls)
        server = smtplib.SMTP(target.host, port, timeout=target.timeout_s)
        if target.tls == "starttls":
            try:
                server.starttls(context=self._tls)
            except BaseException:
                server.close()
                raise
        return server

    def _refused(self, error: smtplib.SMTPException) -> Outcome:
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            replies = list(error.recipients.values())
            who = ", ".join(f"{address} ({_said(*reply)})" for address, reply in error.recipients.items())
            is_final = all(code >= 500 for code, _ in replies)
            return Outcome("hopeless" if is_final else "failed", f"it refuses {visible(who)}")
        if isinstance(error, smtplib.SMTPAuthenticationError):
            return Outcome("failed", f"it refuses the login ({error.smtp_code})")  # it may quote what it got
        if isinstance(error, smtplib.SMTPServerDisconnected):
            return Outcome("failed", "it closed the connection")
        if isinstance(error, smtplib.SMTPResponseException):
            said = f"it answered {_said(error.smtp_code, error.smtp_error)}"
            is_final = error.smtp_code >= 500 and not isinstance(error, smtplib.SMTPConnectError)
            return Outcome("hopeless" if is_final else "failed", said)
        if isinstance(error, smtplib.SMTPNotSupportedError):
            return Outcome("failed", f"it does not know what is asked: {visible(str(error))}")
        return Outcome("failed", f"it broke off ({type(error).__name__})")


def _said(code: int, text: bytes | str) -> str:
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {shortened(' '.join(visible(said).split()), SHOWN_CHARS)}"
