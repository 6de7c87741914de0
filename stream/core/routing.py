"""Which targets are told of a message.

Rules:
- Routes are looked at in the order of the file. The first that fits decides; one with ``continue`` adds its
  targets and lets the next ones add theirs. What no route fits goes to the default targets.
- All that a route says must fit; of a list, one is enough. A route that says nothing fits everything.
- A target hears only what it is for: transitions or notifications, history or not.
- **Who heard the beginning hears the end.** An alert gets worse and its category may change, so its end could
  take another way than its beginning. So a message that is not the first of its lane goes where it would
  go with the severities and categories that the lane has had, too. A route that names states keeps to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stream.core.scope import matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stream.core.messages import Hears, Message


class Kind(NamedTuple):
    """What may change about an alert between its messages."""

    severity: str
    category: str | None


class Route(NamedTuple):
    """Of the file's routes, one; an empty tuple does not narrow it."""

    to: tuple[str, ...] = ()
    severity: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    product: tuple[str, ...] = ()
    """Patterns of product ids; ``*`` stands for any characters."""
    rule: tuple[str, ...] = ()
    channel: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    """``alert`` or ``incident``."""
    goes_on: bool = False

    def fits(self, message: Message, kind: Kind) -> bool:
        """Whether it is for a message, were it of this kind."""
        alert, incident = message.alert, message.incident
        products = [alert.product_id] if alert else incident.products if incident else []
        return (
            (not self.severity or kind.severity in self.severity)
            and (not self.category or kind.category in self.category)
            and (not self.product or any(matches(each, name) for each in self.product for name in products))
            and (not self.rule or (alert is not None and alert.rule in self.rule))
            and (not self.channel or (alert is not None and alert.channel in self.channel))
            and (not self.state or message.state in self.state)
            and (not self.kind or ("incident" if incident else "alert") in self.kind)
        )


class Ear(NamedTuple):
    """What a target hears."""

    hears: Hears
    historic: bool = False


class Routing(NamedTuple):
    """All routes.

    >>> from stream.core.messages import Message
    >>> routing = Routing(
    ...     (Route(("pager",), severity=("critical",)),), ("room",),
    ...     {"pager": Ear("notifications"), "room": Ear("notifications")},
    ... )
    >>> message = Message(
    ...     id="i", hears="notifications", state="resolved", severity="critical", at="", lane="t", number=0
    ... )
    >>> routing.targets(message), routing.targets(message, [Kind("warning", None)])
    (['pager'], ['pager', 'room'])
    """

    routes: Sequence[Route]
    default: tuple[str, ...]
    ears: Mapping[str, Ear]

    def targets(self, message: Message, before: Iterable[Kind] = ()) -> list[str]:
        """Names of the targets that hear a message, each once.

        Args:
            message: it.
            before: what its lane was when it was told before.
        """
        kinds = dict.fromkeys((kind_of(message), *before))
        named = dict.fromkeys(name for kind in kinds for name in self._named(message, kind))
        return [name for name in named if self._hears(name, message)]

    def _named(self, message: Message, kind: Kind) -> list[str]:
        found: list[str] = []
        for route in self.routes:
            if route.fits(message, kind):
                found += route.to
                if not route.goes_on:
                    return found
        return found or list(self.default)

    def _hears(self, name: str, message: Message) -> bool:
        ear = self.ears[name]
        return ear.hears == message.hears and (ear.historic or not message.is_historic)


def kind_of(message: Message) -> Kind:
    """What may change about it."""
    if message.alert is not None:
        return Kind(message.severity, message.alert.category)
    return Kind(message.severity, message.incident.category if message.incident else None)
