"""The notify file: who is told, where, and of what. TOML, version 1; docs/notify.md explains it.

Rules:
- The structs below are the file: their fields are its keys. ``stream.core.notify_parse`` reads it into them.
- A secret never stands in the file: it says which environment variable or which file has it. The addresses of
  chat robots are secrets, for whoever has one can write there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec

from stream.core.events import Channel
from stream.core.messages import Hears
from stream.core.notify import Severity, Turn
from stream.core.rules import Duration, Flag, duration_ms
from stream.core.toml_lines import Path  # noqa: TC001 (msgspec reads the annotation when it runs)
from stream.core.toml_reading import Problem, meta, says
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1

Text = Annotated[str, meta("a text of 1 to 256 characters", '"kettles"', min_length=1, max_length=256)]


TargetName = Annotated[
    str, meta("a name of 1 to 64 of a-z, 0-9, _ and -", '"pager"', pattern=r"^[a-z0-9_-]{1,64}(?!\n)$")
]


class Secret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a secret is: one of the two."""

    env: Annotated[Text | None, says("The environment variable that has it.")] = None
    file: Annotated[Text | None, says("The file that has it; relative to this file's folder.")] = None


SecretRef = Annotated[
    Secret, meta("a table that says where the secret is", '{ env = "NAME" } or { file = "PATH" }')
]
# msgspec (0.22) frees twice what has a pattern and stands in a union with an array of the like, so what has a
# pattern is looked at by the parser there.
UrlOrSecret = Annotated[
    str | Secret,
    meta(
        "an http or https address without user or password", '"https://example.com/hook" or { env = "NAME" }'
    ),
]
HeaderValue = str | Secret
Headers = Annotated[
    dict[str, HeaderValue],
    meta("a table of texts, or of where secrets are", '{ Authorization = { env = "NAME" } }'),
]
Language = Annotated[Literal["en", "zh"], meta("en or zh", '"en" or "zh"')]
Zone = Annotated[str, meta("a time zone's name", '"Europe/Berlin"', min_length=1, max_length=64)]
FileName = Annotated[str, meta("a file's name", '"my-template.j2"', min_length=1, max_length=256)]
Mail = Annotated[str, meta("a mail address", '"ops@example.com"')]
Mails = Annotated[
    str | list[str], meta("a mail address, or several in an array", '"ops@example.com" or ["a@example.com"]')
]
OneHears = Annotated[Hears, meta("notifications or transitions", '"notifications" or "transitions"')]


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every target may say."""

    kind: ClassVar[str] = ""
    for_people: ClassVar[bool] = True

    name: Annotated[TargetName, says("What routes call it; each name once.")]
    hears: Annotated[
        OneHears | None,
        says("notifications: what people must hear of now; transitions: whatever happens to alerts."),
    ] = None
    historic: Annotated[Flag, says("Whether transitions of history that is read in count, too.")] = False
    timeout: Annotated[Duration, says("Longest an attempt may take; 1s to 5m.")] = "15s"
    give_up_after: Annotated[Duration, says("Then a message becomes a dead letter; 1m to 7d.")] = "24h"
    ca_file: Annotated[
        FileName | None,
        says("Certificates (PEM) to trust beside the system's; relative to this file's folder."),
    ] = None

    @property
    def heard(self) -> Hears:
        """``hears``, or its default."""
        return self.hears or ("notifications" if self.for_people else "transitions")

    @property
    def timeout_s(self) -> float:
        """Longest an attempt may take."""
        return duration_ms(self.timeout) / 1000

    @property
    def give_up_ms(self) -> int:
        """How long a message is tried."""
        return duration_ms(self.give_up_after)


class Written(Target, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a target that shows text may say."""

    language: Annotated[Language | None, says("Of the built-in templates.")] = None
    timezone: Annotated[Zone | None, says("Of the times in it.")] = None
    template: Annotated[FileName | None, says("A Jinja2 template of your own, relative to this file.")] = None


class Webhook(
    Written, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="webhook", tag_field="type"
):
    """JSON to an address."""

    kind: ClassVar[str] = "webhook"
    for_people: ClassVar[bool] = False

    url: Annotated[UrlOrSecret, says("Where to.")]
    secret: Annotated[
        SecretRef | None, says("Signs every message; several, separated by spaces, sign each.")
    ] = None
    headers: Annotated[Headers, says("Headers to add.")] = {}
    envelope: Annotated[
        Annotated[Literal["plain", "cloudevents"], meta("plain or cloudevents", '"plain" or "cloudevents"')],
        says("cloudevents: CloudEvents 1.0, structured."),
    ] = "plain"
    at_once: Annotated[
        Annotated[int, meta("a whole number from 1 to 64", "4", ge=1, le=64)],
        says("Messages under way at the same time."),
    ] = 4


class Alertmanager(
    Written, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="alertmanager", tag_field="type"
):
    """An Alertmanager, API v2."""

    kind: ClassVar[str] = "alertmanager"
    for_people: ClassVar[bool] = False

    url: Annotated[UrlOrSecret, says("Its address, without /api/v2/alerts.")]
    headers: Annotated[Headers, says("Headers to add.")] = {}
    labels: Annotated[
        Annotated[dict[str, str], meta("a table whose values are texts", '{ team = "shop" }')],
        says("Labels to add."),
    ] = {}
    resend: Annotated[Duration, says("What fires is sent again after so long; 10s to 10m.")] = "1m"

    @property
    def resend_ms(self) -> int:
        """How often what fires is sent again."""
        return duration_ms(self.resend)


class Slack(Written, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="slack", tag_field="type"):
    """A webhook that takes what Slack's take: Slack, Mattermost, Rocket.Chat."""

    kind: ClassVar[str] = "slack"

    url: Annotated[SecretRef, says("The webhook's address.")]


class DingTalk(
    Written, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="dingtalk", tag_field="type"
):
    """A DingTalk group's robot."""

    kind: ClassVar[str] = "dingtalk"

    url: Annotated[SecretRef, says("The robot's address, with its access_token.")]
    secret: Annotated[SecretRef | None, says("The robot's signing secret (SEC...), where it has one.")] = None


class WeCom(Written, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="wecom", tag_field="type"):
    """A WeCom group's robot."""

    kind: ClassVar[str] = "wecom"

    url: Annotated[SecretRef, says("The robot's address, with its key.")]


class Email(Written, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="email", tag_field="type"):
    """E-mail by SMTP."""

    kind: ClassVar[str] = "email"

    host: Annotated[Text, says("The mail server.")]
    from_: Annotated[Mail, says("The sender.")] = msgspec.field(name="from")
    to: Annotated[Mails, says("Who gets it.")]
    port: Annotated[
        Annotated[int, meta("a port from 1 to 65535", "587", ge=1, le=65_535)] | None,
        says("587 with starttls, 465 with tls, 25 with none if not given."),
    ] = None
    tls: Annotated[
        Annotated[Literal["starttls", "tls", "none"], meta("starttls, tls or none", '"starttls" or "tls"')],
        says("How the connection is encrypted; none only without a password, or on this machine."),
    ] = "starttls"
    user: Annotated[Text | None, says("Logs in as.")] = None
    password: Annotated[SecretRef | None, says("With this password.")] = None
    html_template: Annotated[
        FileName | None, says("A template of your own for the HTML part, relative to this file.")
    ] = None

    @property
    def recipients(self) -> list[str]:
        """Who gets it."""
        return [self.to] if isinstance(self.to, str) else self.to


AnyTarget = Webhook | Alertmanager | Slack | DingTalk | WeCom | Email
TARGETS: dict[str, type[Target]] = {
    each.kind: each for each in (Webhook, Alertmanager, Slack, DingTalk, WeCom, Email)
}

OneSeverity = Annotated[Severity, meta("warning or critical", '"critical"')]
OneState = Annotated[Turn, meta("firing, still_firing, escalated or resolved", '"firing"')]
OneKind = Annotated[Literal["alert", "incident"], meta("alert or incident", '"incident"')]
OneChannel = Annotated[Channel, meta("reviews or chats", '"reviews"')]


class RouteTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which messages go to which targets. What is given must fit; of an array, one is enough."""

    to: Annotated[
        Annotated[str | list[str], meta("a target's name, or several in an array", '"pager" or ["pager"]')],
        says("The targets."),
    ]
    severity: Annotated[
        Annotated[
            OneSeverity | list[OneSeverity], meta("warning or critical, or an array of them", '"critical"')
        ]
        | None,
        says("Of the alert."),
    ] = None
    category: Annotated[
        Annotated[Text | list[Text], meta("a category, or several in an array", '"kettles"')] | None,
        says("That events say."),
    ] = None
    product: Annotated[
        Annotated[
            Text | list[Text],
            meta("a product id or pattern without ?, [ and ], or several in an array", '"B00*"'),
        ]
        | None,
        says("Product ids; * stands for any characters."),
    ] = None
    rule: Annotated[
        Annotated[Text | list[Text], meta("a rule's name, or several in an array", '"negative_share"')]
        | None,
        says("That fired."),
    ] = None
    channel: Annotated[
        Annotated[OneChannel | list[OneChannel], meta("reviews or chats", '"reviews"')] | None,
        says("Where the events came from."),
    ] = None
    state: Annotated[
        Annotated[
            OneState | list[OneState],
            meta("firing, still_firing, escalated or resolved, or an array of them", '"firing"'),
        ]
        | None,
        says("What happened."),
    ] = None
    kind: Annotated[
        Annotated[OneKind | list[OneKind], meta("alert or incident", '"incident"')] | None,
        says("incident: many products at once."),
    ] = None
    continue_: Annotated[Flag, says("Whether the routes below are looked at, too.")] = msgspec.field(
        default=False, name="continue"
    )


class NotifyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file as it is written."""

    version: Annotated[Annotated[Literal[1], meta("the version 1", "1")], says("Of this format.")]
    default: Annotated[
        Annotated[str | list[str], meta("a target's name, or several in an array", '"room" or ["room"]')],
        says("The targets of what no route fits; [] for nobody."),
    ]
    language: Annotated[Language, says("Of the built-in templates.")] = "en"
    timezone: Annotated[Zone, says("Of the times in texts.")] = "UTC"
    renotify: Annotated[Duration, says("People are told again of what fires on after so long; 1m to 7d.")] = (
        "4h"
    )
    product_url: Annotated[
        Annotated[str, meta("an http or https address", '"https://example.com/products/{product_id}"')]
        | None,
        says("A link in texts; {product_id} stands for the product."),
    ] = None
    target: Annotated[list[AnyTarget], says("Who can be told.")] = []
    route: Annotated[list[RouteTable], says("Who is told of what; the first that fits decides.")] = []


class Notify(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was found right."""

    targets: tuple[AnyTarget, ...]
    routes: tuple[RouteTable, ...]
    default: tuple[str, ...]
    language: Literal["en", "zh"]
    timezone: str
    renotify_ms: int
    product_url: str | None
    where: str
    """The file's name, for what is said of it."""
    lines: dict[Path, int]
    """Where its keys stand."""


class NotifyFileError(UsageError):
    """A notify file is wrong; says all that is."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        count = len(problems)
        head = (
            f"The notify file {problems[0].where} has {'a mistake' if count == 1 else f'{count} mistakes'}:"
        )
        super().__init__("\n  ".join([head, *map(str, problems)]))
        self.problems = tuple(problems)


def listed(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """One, several or none, as several.

    >>> listed("a"), listed(["a", "b"]), listed(None)
    (('a',), ('a', 'b'), ())
    """
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
