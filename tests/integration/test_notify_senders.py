"""What each kind of target gets, over real connections, and what is said of failures."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
import time
from base64 import b64encode
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from msgspec.structs import replace

from stream.core.messages import Message, of_alert
from stream.deliver.alertmanager import AlertmanagerSender
from stream.deliver.config import read_notify
from stream.deliver.examples import EXAMPLES
from stream.deliver.service import sender_of
from stream.settings import load
from tests.builders import alert
from tests.integration.conftest import free_port
from tests.integration.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stream.core.delivery import Outcome
    from stream.deliver.config import Address
    from stream.deliver.sender import Sent

NOW_MS = 1_700_000_000_000
FIRING = EXAMPLES["firing"]


def address(tmp_path: Path, lines: str, **environ: str) -> Address:
    """The target of these lines."""
    path = tmp_path / "notify.toml"
    path.write_text(f'version = 1\ndefault = []\n[[target]]\nname = "x"\ntimeout = "2s"\n{lines}\n', "utf-8")
    return read_notify(path, environ).addresses["x"]


def sent(to: Address, *messages: Message) -> list[Outcome]:
    """Sends messages one after another."""

    async def send() -> list[Outcome]:
        sender = sender_of(to, load())
        await sender.start({})
        try:
            return [(await sender.send(each)).outcome for each in messages]
        finally:
            await sender.close()

    return asyncio.run(send())


def outcome(to: Address, message: Message = FIRING) -> tuple[str, str]:
    (found,) = sent(to, message)
    return found.kind, found.reason


# ---- Webhooks


def test_a_cloud_event_has_what_its_specification_asks_for(tmp_path: Path) -> None:
    with Receiver() as receiver:
        lines = f'type = "webhook"\nurl = "{receiver.url}/hook"\nenvelope = "cloudevents"'
        assert outcome(address(tmp_path, lines)) == ("delivered", "")
    (request,) = receiver.received
    assert request.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert "webhook-signature" not in request.headers
    event = request.json
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "id": FIRING.id,
        "source": "/reviewpulse/rp",
        "type": "reviewpulse.alert.firing",
        "subject": "EXAMPLE-1",
        "time": FIRING.at,
        "datacontenttype": "application/json",
    }
    assert (data["id"], data["alert"]["product_id"]) == (FIRING.id, "EXAMPLE-1")


def test_an_own_template_makes_the_body_and_headers_are_added(tmp_path: Path) -> None:
    (tmp_path / "own.j2").write_text('{"title": {{ state_word }}, "alert": {{ everything.alert }}}', "utf-8")
    with Receiver() as receiver:
        lines = (
            'type = "webhook"\nurl = { env = "URL" }\ntemplate = "own.j2"\n'
            'headers = { Authorization = { env = "TOKEN" }, X-Team = "shop" }'
        )
        to = address(tmp_path, lines, URL=f"{receiver.url}/hook?key=a%2Fb%2Bc", TOKEN="Bearer t")  # noqa: S106
        assert outcome(to) == ("delivered", "")
    (request,) = receiver.received
    assert request.path == "/hook?key=a%2Fb%2Bc"
    assert (request.headers["authorization"], request.headers["x-team"]) == ("Bearer t", "shop")
    assert request.json["title"] == "FIRING"
    assert request.json["alert"]["quotes"][0]["p_negative"] == 0.98


@pytest.mark.parametrize(
    ("mood", "kind", "reason"),
    [
        ("500", "failed", "it answered 500: said 500"),
        ("401", "hopeless", "it answered 401: said 401"),
        (
            "redirect",
            "hopeless",
            "it answered 307; it redirects, which is not followed: name the final address",
        ),
        ("stall", "failed", "it did not answer within 2 s"),
        ("drop", "failed", "127.0.0.1:PORT closed the connection without an answer"),
    ],
)
def test_a_failure_is_told_without_the_address(tmp_path: Path, mood: str, kind: str, reason: str) -> None:
    with Receiver(mood) as receiver:
        to = address(tmp_path, 'type = "slack"\nurl = { env = "URL" }', URL=f"{receiver.url}/T0/hunter2")
        assert outcome(to) == (kind, reason.replace("PORT", str(receiver.port)))


def test_what_an_answer_repeats_of_a_secret_is_not_shown(tmp_path: Path) -> None:
    with Receiver("400") as receiver:
        url = f"{receiver.url}/400"
        receiver.answer = lambda mood: (400, {}, f"bad hook {url}\x1b[2J".encode())  # type: ignore[method-assign]
        to = address(tmp_path, 'type = "slack"\nurl = { env = "URL" }', URL=url)
        assert outcome(to) == ("hopeless", "it answered 400: bad hook ***\\x1b[2J")


def test_an_answer_without_an_end_is_cut(tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.answer = lambda mood: (500, {}, b"x" * 10_000_000)  # type: ignore[method-assign]
        kind, reason = outcome(address(tmp_path, f'type = "webhook"\nurl = "{receiver.url}"'))
    assert kind == "failed"
    assert len(reason) < 200


def test_a_certificate_that_is_not_trusted_is_refused_and_one_of_the_ca_file_is_not(tmp_path: Path) -> None:
    ca = trustme.CA()
    (tmp_path / "ca.pem").write_bytes(ca.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    with Receiver() as receiver:
        assert receiver._server is not None
        receiver._server.socket = context.wrap_socket(receiver._server.socket, server_side=True)
        lines = f'type = "webhook"\nurl = "https://127.0.0.1:{receiver.port}/hook"\n'
        kind, reason = outcome(address(tmp_path, lines))
        assert kind == "failed"
        assert f"127.0.0.1:{receiver.port} shows a certificate that is not trusted" in reason
        assert receiver.received == []
        assert outcome(address(tmp_path, lines + 'ca_file = "ca.pem"')) == ("delivered", "")


# ---- Chats


def test_dingtalks_address_is_signed_as_its_manual_says(tmp_path: Path) -> None:
    lines = 'type = "dingtalk"\nlanguage = "zh"\nurl = { env = "URL" }\nsecret = { env = "SECRET" }'
    with Receiver() as receiver:
        to = address(tmp_path, lines, URL=f"{receiver.url}/robot/send?access_token=t", SECRET="SEC+/1")  # noqa: S106
        assert outcome(to) == ("delivered", "")
    (request,) = receiver.received
    query = {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
    assert abs(int(query["timestamp"]) / 1000 - time.time()) < 60
    signed = hmac.new(b"SEC+/1", f"{query['timestamp']}\nSEC+/1".encode(), hashlib.sha256).digest()
    assert (query["access_token"], query["sign"]) == ("t", b64encode(signed).decode())
    assert request.json["msgtype"] == "markdown"
    assert request.json["markdown"]["title"].startswith("🔴【警告】触发")
    assert "40 条中有 22 条负面" in request.json["markdown"]["text"]


@pytest.mark.parametrize(
    ("mood", "kind"),
    [("code 0", "delivered"), ("code -1", "failed"), ("code 45009", "failed"), ("code 93000", "hopeless")],
)
def test_a_robots_code_counts_not_its_status(tmp_path: Path, mood: str, kind: str) -> None:
    with Receiver(mood) as receiver:
        to = address(tmp_path, 'type = "wecom"\nurl = { env = "URL" }', URL=f"{receiver.url}/send?key=k")
        assert outcome(to)[0] == kind


def test_what_is_no_robot_is_not_taken_for_one(tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.answer = lambda mood: (200, {}, b"<html>Please log in</html>")  # type: ignore[method-assign]
        to = address(tmp_path, 'type = "wecom"\nurl = { env = "URL" }', URL=receiver.url)
        assert outcome(to) == ("failed", "its answer has no errcode, so it is no robot's")


def test_wecom_gets_no_more_bytes_than_it_takes(tmp_path: Path) -> None:
    long = of_alert(alert(product_id="茶" * 250, summary=[], category="茶" * 5_000))
    with Receiver() as receiver:
        to = address(tmp_path, 'type = "wecom"\nurl = { env = "URL" }', URL=receiver.url)
        assert outcome(to, long) == ("delivered", "")
    content = receiver.received[0].json["markdown"]["content"]
    assert 3_900 < len(content.encode()) <= 4_096


# ---- Alertmanager


def posted(receiver: Receiver) -> list[list[tuple[str, str, str]]]:
    """Of each request: severity, start and end of each alert."""
    return [
        [(each["labels"]["severity"], each["startsAt"], each["endsAt"]) for each in request.json]
        for request in receiver.received
    ]


def test_alertmanager_gets_firing_again_and_again_and_the_end_once(tmp_path: Path) -> None:
    clock = [NOW_MS]
    start, worse, end = (
        of_alert(alert(sequence=1, at="2023-11-14T22:13:20.000Z", category="toys")),
        of_alert(alert(sequence=2, at="2023-11-14T22:14:20.000Z", category="tools", severity="critical")),
        of_alert(alert(sequence=3, at="2023-11-14T22:20:00.000Z", severity="critical", state="resolved")),
    )
    held: dict[str, bytes] = {}

    async def scenario(to: Address) -> None:
        sender = AlertmanagerSender(to, lambda: clock[0])
        await sender.start({})
        held.update((await sender.send(start)).on)
        assert await sender.again() is None
        clock[0] += 60_000
        assert (await sender.again()) is not None
        held.update((await sender.send(worse)).on)
        await sender.close()
        after = AlertmanagerSender(to, lambda: clock[0])  # a restart
        await after.start(held)
        assert (await after.again()) is not None
        done = await after.send(end)
        assert dict(done.on) == {"a1": b""}
        clock[0] += 600_000
        assert await after.again() is None
        await after.close()

    with Receiver() as receiver:
        lines = f'type = "alertmanager"\nurl = "{receiver.url}/am/"\nlabels = {{ team = "shop" }}'
        asyncio.run(scenario(address(tmp_path, lines)))
    first, later = "2023-11-14T22:13:20.000Z", "2023-11-14T22:14:20.000Z"
    assert posted(receiver) == [
        [("warning", first, "2023-11-14T22:17:20.000Z")],
        [("warning", first, "2023-11-14T22:18:20.000Z")],
        [("warning", first, later), ("critical", first, "2023-11-14T22:18:20.000Z")],
        [("critical", first, "2023-11-14T22:18:20.000Z")],
        [("critical", first, "2023-11-14T22:20:00.000Z")],
    ]
    assert {request.path for request in receiver.received} == {"/am/api/v2/alerts"}
    last = receiver.received[-1].json[0]
    assert last["labels"] == {
        "alertname": "negative_share",
        "alert_id": "a1",
        "product_id": "B001",
        "channel": "reviews",
        "category": "toys",
        "severity": "critical",
        "source": "reviewpulse",
        "team": "shop",
    }
    assert last["annotations"]["summary"] == "🟢 [CRITICAL] RESOLVED: B001 (reviews), negative_share"


def test_an_end_before_its_start_ends_at_the_start(tmp_path: Path) -> None:
    end = of_alert(alert(sequence=2, state="resolved", at="2023-11-14T22:00:00.000Z"))
    start = of_alert(alert(at="2023-11-14T22:13:20.000Z"))
    with Receiver() as receiver:
        sent(address(tmp_path, f'type = "alertmanager"\nurl = "{receiver.url}"'), start, end)
    assert posted(receiver)[-1] == [("warning", "2023-11-14T22:13:20.000Z", "2023-11-14T22:13:20.000Z")]


def test_what_alertmanager_did_not_take_is_not_held(tmp_path: Path) -> None:
    async def attempt(to: Address) -> tuple[Sent, Outcome | None]:
        sender = AlertmanagerSender(to, lambda: NOW_MS)
        await sender.start({})
        done = await sender.send(of_alert(alert()))
        again = await sender.again()
        await sender.close()
        return done, again

    with Receiver("500") as receiver:
        done, again = asyncio.run(
            attempt(address(tmp_path, f'type = "alertmanager"\nurl = "{receiver.url}"'))
        )
    assert (done.outcome.kind, dict(done.on), again) == ("failed", {}, None)


# ---- Mail


class Mailbox:
    """What a mail server got, and what it says next."""

    def __init__(self) -> None:
        self.replies: list[str] = []
        self.refused: set[str] = set()
        self.mails: list[tuple[list[str], Any]] = []

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: Any, session: Any, envelope: Any, who: str, options: Any
    ) -> str:
        if who in self.refused:
            return "550 nobody of this name"
        envelope.rcpt_tos.append(who)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - likewise
        if self.replies:
            return self.replies.pop(0)
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 OK"


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def mail_port(mailbox: Mailbox) -> Iterator[int]:
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller.port
    controller.stop()


def mail(
    tmp_path: Path, port: int, to: Sequence[str] = ("ops@example.com",), lines: str = "", **environ: str
) -> Address:
    head = f'type = "email"\nhost = "127.0.0.1"\nport = {port}\nfrom = "Réviews <rp@example.com>"\n'
    return address(tmp_path, f"{head}to = {json.dumps(list(to))}\n{lines}", **environ)


def test_a_mail_is_text_and_html_and_a_repeat_has_its_id(
    tmp_path: Path, mailbox: Mailbox, mail_port: int
) -> None:
    to = mail(tmp_path, mail_port, ["ops@example.com", "b@example.com"], 'tls = "none"')
    hostile = replace(FIRING, alert=alert(product_id="<b>x</b>\r\nBcc: victim@example.com"))
    mailbox.replies = ["451 later", "250 OK"]
    kinds = [each.kind for each in sent(to, hostile, hostile, hostile, EXAMPLES["resolved"])]
    assert kinds == ["failed", "delivered", "delivered", "delivered"]
    (recipients, first), (_, end) = mailbox.mails
    assert recipients == ["ops@example.com", "b@example.com"]
    assert (
        first["Subject"] == "🔴 [WARNING] FIRING: <b>x</b> Bcc: victim@example.com (reviews), negative_share"
    )
    assert first["From"] == "Réviews <rp@example.com>"
    assert first["Bcc"] is None
    assert first["Message-ID"] == "<0123456789abcdef-1.x@example.com>"
    assert first["References"] == end["References"] == "<0123456789abcdef.x.thread@example.com>"
    text, page = (part.get_content() for part in first.iter_parts())
    assert "20 of 40 negative (50%), usually 10%" in text
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x</b>" not in page


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        ("451 later", "failed", "it answered 451 later"),
        ("552 too large", "hopeless", "it answered 552 too large"),
    ],
)
def test_what_a_mail_server_says_decides(
    tmp_path: Path, mailbox: Mailbox, mail_port: int, reply: str, kind: str, reason: str
) -> None:
    mailbox.replies = [reply]
    assert outcome(mail(tmp_path, mail_port, lines='tls = "none"')) == (kind, reason)


def test_who_did_not_get_it_is_named(tmp_path: Path, mailbox: Mailbox, mail_port: int) -> None:
    mailbox.refused = {"gone@example.com"}
    to = mail(tmp_path, mail_port, ["ops@example.com", "gone@example.com"], 'tls = "none"')
    refused = "gone@example.com (550 nobody of this name)"
    assert outcome(to) == ("hopeless", f"the others got it, but it refuses {refused}")
    assert len(mailbox.mails) == 1
    alone = mail(tmp_path, mail_port, ["gone@example.com"], 'tls = "none"')
    assert outcome(alone) == ("hopeless", f"it refuses {refused}")


def test_a_server_without_tls_gets_nothing(tmp_path: Path, mailbox: Mailbox, mail_port: int) -> None:
    kind, reason = outcome(mail(tmp_path, mail_port))
    assert (kind, mailbox.mails) == ("failed", [])
    assert reason.startswith("it does not know what is asked: STARTTLS")


def test_no_server_is_tried_again(tmp_path: Path) -> None:
    kind, reason = outcome(mail(tmp_path, 1, lines='tls = "none"'))
    assert (kind, reason) == ("failed", "cannot talk to 127.0.0.1: Connection refused")


@pytest.mark.parametrize("password", ["hunter2", "wrong"])
def test_a_login_goes_over_verified_tls_alone(tmp_path: Path, mailbox: Mailbox, password: str) -> None:
    ca = trustme.CA()
    (tmp_path / "ca.pem").write_bytes(ca.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: Any, data: Any) -> AuthResult:
        is_right = (data.login, data.password) == (b"rp", b"hunter2")
        return AuthResult(success=is_right, handled=False)

    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=context,
        require_starttls=True,
        authenticator=authenticate,
        auth_required=True,
    )
    controller.start()
    try:
        port = controller.port
        login = 'user = "rp"\npassword = { env = "PASSWORD" }\n'
        untrusted = mail(tmp_path, port, lines=login, PASSWORD=password)
        kind, reason = outcome(untrusted)
        assert kind == "failed"
        assert reason.startswith("its certificate is not trusted")
        trusted = mail(tmp_path, port, lines=f'{login}ca_file = "ca.pem"', PASSWORD=password)
        kind, reason = outcome(trusted)
    finally:
        controller.stop()
    if password == "hunter2":  # noqa: S105
        assert (kind, len(mailbox.mails)) == ("delivered", 1)
    else:
        assert (kind, reason, mailbox.mails) == ("failed", "it refuses the login (535)", [])
