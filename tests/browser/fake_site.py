"""The page's fast double of a server: the real pages over made-up answers, with no Kafka, Redis or model.

``python tests/browser/fake_site.py --scene busy --port 8010`` serves it to a browser, for work on its looks.
Scenes: ``busy``, ``empty`` (nothing was counted yet), ``hostile`` (texts that want to be more than text),
``shut`` (asks for the token ``open-sesame``).
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import uvicorn
from litestar import Litestar, Request, Response, delete, get, post
from litestar.exceptions import NotAuthorizedException
from litestar.params import FromPath  # noqa: TC002  # Litestar reads the annotations
from litestar.response import Stream

from stream.client import ProductCounts
from stream.core.events import Quote, RateEvidence
from stream.core.phrases import Phrase
from stream.core.summary import Said
from stream.web import pages
from tests.builders import alert

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stream.core.events import Alert

HOSTILE = (
    "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">",
    '=HYPERLINK("http://evil.example","refund") +1 -1 @SUM(1+1)*cmd|\' /C calc\'!A0',
    "abc \u202egnirts desrever\u202c \u2066isolate\u2069 zero\u200bwidth \x07bell",
    "שלום עולם, המוצר נשבר מיד 👎🏽👩‍👩‍👧‍👦 坏了",
    "x" * 9_000 + " " + "long " * 200,
)
NAMES = (
    *("power-1", "audio-2", "kettles-1", "coffee-3", "shoes-1", "bags-2", "power-3", "lamps-1"),
    *("B00004TZTZ/blue edition", "toys-4"),
)
PRODUCTS = 100_000
SERIES = {"1h": (60, 61), "24h": (3_600, 25), "7d": (21_600, 29)}
"""Width of a bucket in seconds, and how many there are."""
EVENTS = {"5m": 1, "1h": 12, "24h": 250, "7d": 1_700, "all": 9_000}
"""How many times a product's events of five minutes."""
FILTERS = ("state", "severity", "product_id", "category", "rule")
TICK_S = 1.5
SESAME = "open-sesame"


def ago(seconds: float = 0.0) -> str:
    """So long ago, or ahead, as the API says it."""
    moment = datetime.now(UTC) - timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def quotes(*texts: str) -> list[Quote]:
    return [
        Quote(event_id=f"e{n}", text=text, p_negative=0.99 - n / 100, event_time=ago(60.0 * n))
        for n, text in enumerate(texts)
    ]


QUOTES = (
    "Stopped charging after two days and got so hot that I was afraid to hold it. Call me at [phone].",
    "The battery swelled up. I want my money back, order [number].",
    "第二次充电就鼓包了, 客服一直不回复。",
)
PHRASES = [Phrase(text, n, n / 101) for text, n in (("got hot", 48), ("battery swelled", 31), ("鼓包", 9))]
SUMMARY = [Said("The battery got so hot that I was afraid of a fire.", 38), Said("It stopped charging.", 24)]
RATE = RateEvidence(
    per_day=412.0,
    per_day_interval=(350.0, 470.0),
    usual_per_day=61.0,
    usual_interval=(50.0, 70.0),
    burstiness=0.1,
    evidence=22.0,
    threshold=14.0,
    profile="p1",
)


def fired(name: str, product: str, began_s: float, **changes: Any) -> Alert:
    usual: dict[str, Any] = {
        "id": name,
        "product_id": product,
        "category": "power",
        "onset": ago(began_s),
        "at": ago(began_s * 0.7),
        "duration_s": began_s * 0.3,
        "events": 148,
        "negatives": 101,
        "current_share": 0.682,
        "current_interval": (0.60, 0.75),
        "baseline_share": 0.091,
        "baseline_interval": (0.07, 0.11),
        "peak_share": 0.74,
        "model_version": "en-zh-1.0-3f9c",
        "quotes": quotes(*QUOTES),
        "phrases": PHRASES,
        "summary": SUMMARY,
    }
    return alert(**usual | changes)


def busy() -> list[Alert]:
    over: dict[str, Any] = {"state": "resolved", "sequence": 3, "resolution": "recovered"}
    return [
        fired("a1", "power-1", 700.0, severity="critical"),
        fired("a2", "kettles-1", 2_400.0, rule="negative_rate", rate=RATE),
        fired("a3", "B00004TZTZ/blue edition", 6_000.0),
        fired("a4", "shoes-1", 9_000.0, **over),
        fired("a5", "toys-4", 100_000.0, **over | {"resolution": "new_normal"}),
    ]


def hostile() -> list[Alert]:
    return [
        fired(
            f"a{n}",
            text[:256],
            300.0 + n,
            rule=HOSTILE[0],
            category=HOSTILE[1],
            quotes=quotes(*HOSTILE),
            phrases=[Phrase(HOSTILE[0], 3, 0.5)],
            summary=[Said(HOSTILE[2], 2)],
        )
        for n, text in enumerate(HOSTILE[:4])
    ]


class World:
    """What the double answers, by scene."""

    def __init__(self, scene: str) -> None:
        self.scene = scene
        self.is_empty = scene == "empty"
        self.is_redis_well = True
        self.silences: list[dict[str, Any]] = []
        self.news: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        made = {"empty": list, "hostile": hostile}.get(scene, busy)()
        self.alerts: list[dict[str, Any]] = [
            msgspec.to_builtins(each) | {"silenced_until": None, "acknowledged": None} for each in made
        ]
        if scene == "busy":
            self.alerts[1]["acknowledged"] = {"at": ago(100), "author": "Ann", "note": "with the supplier"}
            self.alerts[2]["silenced_until"] = ago(-3_000)
        more = (f"sku-{n:06}" for n in range(PRODUCTS - len(NAMES)))
        self.products = list(HOSTILE[:4]) if scene == "hostile" else [*NAMES, *more]

    def overview(self) -> dict[str, Any]:
        firing = [each for each in self.alerts if each["state"] == "firing"]
        nothing = {
            "events_per_s": 0.0,
            "lag": 0,
            "latency_p50_ms": None,
            "latency_p99_ms": None,
            "workers": [],
            "products": 0,
            "negative_share": dict.fromkeys(("5m", "1h", "24h")),
            "events": dict.fromkeys(("5m", "1h", "24h"), 0),
            "totals": {},
        }
        worker = {"model_version": "en-zh-1.0-3f9c", "provider": "CPUExecutionProvider"}
        totals = {"dead": 14_269, "skipped": 0, "duplicate": 4, "late": 25_684, "missing": 0}
        much = {
            "events_per_s": random.uniform(1_200, 1_300),
            "lag": random.randrange(40),
            "latency_p50_ms": 18.2,
            "latency_p99_ms": 131.0,
            "workers": [
                {"name": f"worker-{n}", "events_per_s": 617.0, "partitions": ["reviews-0"], **worker}
                for n in (1, 2)
            ],
            "products": len(self.products),
            "negative_share": {"5m": 0.141, "1h": 0.122, "24h": 0.096},
            "events": {"5m": 370_120, "1h": 4_443_000, "24h": 91_204_331},
            "totals": {"reviews": {"counted": 1_284_220, **totals}, "chats": {"counted": 402_131, **totals}},
        }
        return (nothing if self.is_empty else much) | {
            "at": ago(),
            "firing": len(firing),
            "critical": sum(each["severity"] == "critical" for each in firing),
            "redis_ok": self.is_redis_well,
            "kafka_ok": True,
        }

    def series(self, window: str, product_id: str | None) -> dict[str, Any]:
        width_s, number = SERIES[window]
        start = datetime.now(UTC).timestamp() // width_s * width_s - (number - 1) * width_s
        chance = random.Random(f"{product_id}{window}{start}")
        points = []
        for n in range(number):
            scale = 0 if self.is_empty else 3_000 if product_id is None else 24
            events = int(scale * (1 + 0.3 * math.sin(n / 6)) * chance.uniform(0.8, 1.2))
            rise = (0.5 if product_id in {"power-1", "kettles-1"} else 0.03) * (n > number * 0.8)
            negative = int(events * (0.09 + rise + chance.uniform(-0.02, 0.02)))
            points.append(
                {
                    "at": datetime.fromtimestamp(start + n * width_s, UTC).isoformat().replace("+00:00", "Z"),
                    "negative": negative,
                    "neutral": events // 12,
                    "positive": events - negative - events // 12,
                    "mean_sentiment": 0.5 if events else None,
                }
            )
        return {"product_id": product_id, "window": window, "width_s": width_s, "points": points}

    def counts(self, product: str, window: str) -> dict[str, Any]:
        chance = random.Random(product)
        events = 0 if self.is_empty else int(chance.uniform(20, 60) * EVENTS[window])
        share = 0.68 if product == "power-1" and EVENTS[window] < 13 else chance.uniform(0.05, 0.2)
        negative = int(events * share)
        sums = (
            negative,
            events // 10,
            events - negative - events // 10,
            int(events * (1 - 2 * share) * 1000),
        )
        times = (
            {} if self.is_empty else {"first_event_ms": 1_767_607_200_000, "last_event_ms": 1_795_000_000_000}
        )
        found: dict[str, Any] = msgspec.to_builtins(ProductCounts.of(product, window, sums, late=12, **times))
        return found

    def windows(self, product: str) -> list[dict[str, Any]]:
        return [self.counts(product, each) for each in EVENTS]

    def leaders(self, window: str, by: str) -> list[dict[str, Any]]:
        found = [] if self.is_empty else [self.counts(each, window) for each in self.products[:10]]
        return sorted(found, key=lambda each: -each[by])

    def silence(self, asked: dict[str, Any]) -> dict[str, Any]:
        nothing = dict.fromkeys(("product", "category", "pattern", "rule"))
        made = {
            "id": f"{len(self.silences):08x}",
            "on": True,
            "start": ago(),
            "end": ago(-7_200),
            "author": "web",
        }
        self.silences.append({**nothing, **made, "everything": False, **asked})
        self._mark(asked.get("product"), made["end"])
        return self.silences[-1]

    def end_silence(self, silence_id: str) -> dict[str, Any]:
        (ended,) = (each for each in self.silences if each["id"] == silence_id)
        self.silences.remove(ended)
        self._mark(ended["product"], None)
        return ended

    def _mark(self, product: str | None, until: Any) -> None:
        for each in self.alerts:
            if each["product_id"] == product:
                each["silenced_until"] = until
        self.news.put_nowait(("silences", {"silences": self.silences}))

    async def events(self, product_id: str | None) -> AsyncIterator[str]:
        turn = 0
        while True:
            yield sent("overview", self.overview())
            if turn % 3 == 0:
                yield sent("leaders", {"window": "1h", "products": self.leaders("1h", "negative_share")})
            if product_id:
                tail = self.series("1h", product_id)
                tail["points"] = tail["points"][-3:]
                yield sent("product", {"counters": self.windows(product_id), "series_tail": tail})
            turn += 1
            try:
                yield sent(*await asyncio.wait_for(self.news.get(), TICK_S))
            except TimeoutError:
                continue


def sent(name: str, value: Any) -> str:
    return f"event: {name}\ndata: {msgspec.json.encode(value).decode()}\n\n"


def app(world: World) -> Litestar:
    """The double as an ASGI application."""
    return Litestar(
        [*_entrance(world), *_figures(world), *_said(world), *pages.part(None).handlers],  # type: ignore[arg-type]
        logging_config=None,
        openapi_config=None,
    )


def _entrance(world: World) -> list[Any]:
    is_shut = world.scene == "shut"

    def who(request: Request[Any, Any, Any]) -> dict[str, Any]:
        is_in = not is_shut or request.cookies.get("fake") == "in"
        scopes = ["read"] if is_shut else ["ingest", "operate", "read"]
        return {"scopes": scopes if is_in else [], "needs_token": is_shut}

    def guard(request: Any, _: Any) -> None:
        if not who(request)["scopes"]:
            raise NotAuthorizedException("A token is needed.")

    @get("/api/v1/session")
    async def session(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return who(request)

    @post("/api/v1/session", status_code=200)
    async def enter(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        if (await request.json())["token"] != SESAME:
            return Response({"error": "There is no such token."}, status_code=401)
        answer: Response[dict[str, Any]] = Response({"scopes": ["read"], "needs_token": True})
        answer.set_cookie("fake", "in", httponly=True, samesite="strict")
        return answer

    @get("/api/v1/overview", guards=[guard])
    async def overview() -> dict[str, Any]:
        return world.overview()

    @get("/api/v1/live", guards=[guard])
    async def live(request: Request[Any, Any, Any]) -> Stream:
        events = world.events(request.query_params.get("product_id"))
        return Stream(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    return [session, enter, overview, live]


def _figures(world: World) -> list[Any]:
    @get("/api/v1/series")
    async def series(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return world.series(request.query_params["window"], request.query_params.get("product_id"))

    @get("/api/v1/counters")
    async def counters(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return {"products": world.windows(request.query_params["product_id"])}

    @get("/api/v1/leaders")
    async def leaders(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return {"products": world.leaders(request.query_params["window"], request.query_params["by"])}

    @get("/api/v1/products")
    async def products(request: Request[Any, Any, Any]) -> dict[str, Any]:
        wanted = request.query_params["search"].lower()
        found = [each for each in world.products if wanted in each.lower()]
        return {"products": found[: int(request.query_params["limit"])]}

    @get("/api/v1/baseline")
    async def baseline() -> dict[str, Any]:
        known = {"channel": "reviews", "share": 0.091, "interval": [0.07, 0.11], "events": 1200.0}
        return {"baselines": [] if world.is_empty else [known]}

    return [series, counters, leaders, products, baseline]


def _said(world: World) -> list[Any]:
    @get("/api/v1/alerts")
    async def alerts(request: Request[Any, Any, Any]) -> dict[str, Any]:
        asked = {name: request.query_params[name] for name in FILTERS if name in request.query_params}
        fit = [each for each in world.alerts if all(each[name] == value for name, value in asked.items())]
        return {"alerts": fit, "next": None}

    @get("/api/v1/alerts/transitions")
    async def transitions() -> dict[str, Any]:
        return {"alerts": []}

    @get("/api/v1/silences")
    async def silences() -> dict[str, Any]:
        return {"silences": world.silences}

    @post("/api/v1/silences")
    async def silence(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return world.silence(await request.json())

    @delete("/api/v1/silences/{silence_id:str}", status_code=200)
    async def end(silence_id: FromPath[str]) -> dict[str, Any]:
        return world.end_silence(silence_id)

    @post("/api/v1/acknowledgements")
    async def acknowledge(request: Request[Any, Any, Any]) -> dict[str, Any]:
        asked = await request.json()
        word = {"at": ago(), "author": asked.get("author", "web"), "note": asked.get("note", "")}
        for each in world.alerts:
            if each["id"] == asked["alert_id"]:
                each["acknowledged"] = word
        return word

    return [alerts, transitions, silences, silence, end, acknowledge]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--scene", default="busy")
    parser.add_argument("--port", type=int, default=8010)
    given = parser.parse_args()
    uvicorn.run(app(World(given.scene)), port=given.port, log_level="warning")
