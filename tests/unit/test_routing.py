"""Which targets hear of a message."""

from __future__ import annotations

from typing import Any

import pytest
from builders import alert
from msgspec.structs import replace

from stream.core.messages import Message, of_alert, of_notification
from stream.core.notify import Incident, Notification
from stream.core.routing import Ear, Kind, Route, Routing, kind_of

PEOPLE = Ear("notifications")
MACHINES = Ear("transitions")


def message(**fields: Any) -> Message:
    return of_alert(alert(**fields))


def incident(**fields: Any) -> Message:
    usual: dict[str, Any] = {
        "scope": "fleet",
        "category": None,
        "models": None,
        "since": "2024-01-17T10:00:00.000Z",
        "products": ["B001", "C001"],
        "alerts": [],
        "firing": 2,
        "total": 2,
    }
    notification = Notification(
        id="i-firing-1",
        thread="i",
        kind="incident",
        state="firing",
        severity="critical",
        at="2024-01-17T10:00:00.000Z",
        fired=1,
        incident=Incident(**usual | fields),
    )
    return replace(of_notification(notification), hears="transitions")


def routing(*routes: Route, default: tuple[str, ...] = ("rest",), **ears: Ear) -> Routing:
    named = {name for route in routes for name in route.to} | set(default)
    return Routing(routes, default, dict.fromkeys(named, MACHINES) | ears)


@pytest.mark.parametrize(
    ("route", "fits"),
    [
        ({}, True),
        ({"severity": ("warning",)}, True),
        ({"severity": ("critical",)}, False),
        ({"category": ("kettles", "toys")}, True),
        ({"category": ("toys",)}, False),
        ({"product": ("B*",)}, True),
        ({"product": ("C*", "B001")}, True),
        ({"product": ("b*",)}, False),
        ({"rule": ("negative_share",)}, True),
        ({"rule": ("negative_rate",)}, False),
        ({"channel": ("chats",)}, False),
        ({"state": ("firing",)}, True),
        ({"state": ("resolved", "escalated")}, False),
        ({"kind": ("alert",)}, True),
        ({"kind": ("incident",)}, False),
        ({"severity": ("warning",), "product": ("C*",)}, False),
    ],
)
def test_all_that_a_route_says_must_fit(route: dict[str, Any], fits: bool) -> None:
    told = routing(Route(("pager",), **route)).targets(message(category="kettles"))
    assert told == (["pager"] if fits else ["rest"])


@pytest.mark.parametrize(
    ("route", "fits"),
    [
        ({"kind": ("incident",)}, True),
        ({"product": ("C*",)}, True),
        ({"product": ("D*",)}, False),
        ({"rule": ("negative_share",)}, False),
        ({"channel": ("reviews",)}, False),
        ({"category": ("kettles",)}, False),
    ],
)
def test_an_incident_fits_by_its_products_and_has_no_rule(route: dict[str, Any], fits: bool) -> None:
    told = routing(Route(("pager",), **route)).targets(incident())
    assert told == (["pager"] if fits else ["rest"])


def test_an_incident_of_a_category_fits_by_that() -> None:
    routes = routing(Route(("pager",), category=("kettles",)))
    assert routes.targets(incident(scope="category", category="kettles")) == ["pager"]


def test_the_first_that_fits_decides_unless_it_goes_on() -> None:
    first, second = Route(("a",)), Route(("b",))
    assert routing(first, second).targets(message()) == ["a"]
    assert routing(first._replace(goes_on=True), second).targets(message()) == ["a", "b"]
    assert routing(first._replace(goes_on=True)).targets(message()) == ["a"]


def test_each_target_hears_once() -> None:
    assert routing(Route(("a", "b", "a"), goes_on=True), Route(("b",))).targets(message()) == ["a", "b"]


def test_a_target_hears_only_what_it_is_for() -> None:
    routes = routing(Route(("people", "machines")), people=PEOPLE)
    assert routes.targets(message()) == ["machines"]
    assert routes.targets(replace(message(), hears="notifications")) == ["people"]


def test_history_is_for_those_who_want_it() -> None:
    routes = routing(Route(("a", "b")), b=Ear("transitions", historic=True))
    assert routes.targets(message(historic=True)) == ["b"]


def test_who_heard_the_beginning_hears_the_end_whatever_became_of_the_alert() -> None:
    routes = routing(Route(("pager",), severity=("critical",)), Route(("toys",), category=("toys",)))
    end = message(state="resolved", sequence=3, severity="critical", category=None)
    assert routes.targets(end) == ["pager"]
    assert routes.targets(end, [Kind("warning", "toys"), Kind("warning", None)]) == ["pager", "toys", "rest"]


def test_who_asked_for_beginnings_alone_hears_no_end() -> None:
    routes = routing(Route(("a",), severity=("warning",), state=("firing",)), default=())
    end = message(state="resolved", sequence=3, severity="critical")
    assert routes.targets(end, [Kind("warning", None)]) == []


def test_a_transition_says_what_happened() -> None:
    assert message().state == "firing"
    assert message(sequence=2, severity="critical").state == "escalated"
    assert message(sequence=2, state="resolved").state == "resolved"
    assert (message(sequence=2).id, message(sequence=2).lane, message(sequence=2).number) == ("a1-2", "a1", 2)
    assert kind_of(message(category="toys")) == Kind("warning", "toys")
