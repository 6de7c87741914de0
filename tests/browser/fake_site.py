"""The page's fast double of a server: the real pages over made-up answers of the API, with no Kafka, Redis or model.

``python tests/browser/fake_site.py --scene busy --port 8010`` serves it to a browser, for work on the page's looks.
Scenes: ``busy``, ``empty`` (nothing was counted yet), ``hostile`` (texts that want to be more than text), ``shut``
(asks for the token ``open-sesame``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from litestar import Litestar, Request, Response, delete, get, post
from litestar.response import Stream

from stream.web import pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOSTILE = (
    "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">",
    '=HYPERLINK("http://evil.example","refund") +1 -1 @SUM(1+1)*cmd|\' /C calc\'!A0',
    "abc \u202egnirts desrever\u202c \u2066isolate\u2069 zero\u200bwidth \x07bell",
    "שלום עולם, המוצר נשבר מיד 👎🏽👩‍👩‍👧‍👦 坏了！",
    "x" * 9_000 + " " + "long " * 200,
)
WINDOWS = {"1h": (60, 61), "24h": (3_600, 25), "7d": (21_600, 29)}


def stamp(ago_s: float = 0.0) -> str:
    return (
        (datetime.now(UTC) - timedelta(seconds=ago_s))
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def alert(
    product: str,
    *,
    state: str = "firing",
    severity: str = "warning",
    rule: str = "negative_share",
    ago_s: float = 700.0,
    **more: Any,
) -> dict[str, Any]:
    rate = {
        "per_day": 412.0,
        "per_day_interval": [350.0, 470.0],
        "usual_per_day": 61.0,
        "usual_interval": [50.0, 70.0],
        "burstiness": 0.1,
        "evidence": 22.0,
        "threshold": 14.0,
        "profile": "p1",
    }
    return {
        "schema": 1,
        "id": f"{abs(hash((product, rule, ago_s))):016x}",
        "sequence": 1 if state == "firing" else 3,
        "state": state,
        "rule": rule,
        "severity": severity,
        "product_id": product,
        "channel": "reviews",
        "at": stamp(ago_s * 0.7),
        "onset": stamp(ago_s),
        "events": 148,
        "negatives": 101,
        "current_share": 0.682,
        "current_interval": [0.60, 0.75],
        "baseline_share": 0.091,
        "baseline_interval": [0.07, 0.11],
        "baseline_events": 1200.0,
        "false_alarm_run_length": 1_000_000.0,
        "distinct_authors": 87,
        "quotes": [
            {
                "event_id": "e1",
                "text": "Stopped charging after two days and got so hot that I was afraid to hold it. Call me at [phone].",
                "p_negative": 0.99,
                "event_time": stamp(500),
            },
            {
                "event_id": "e2",
                "text": "The battery swelled up. I want my money back, order [number].",
                "p_negative": 0.98,
                "event_time": stamp(430),
            },
            {
                "event_id": "e3",
                "text": "第二次充电就鼓包了，客服一直不回复。",
                "p_negative": 0.97,
                "event_time": stamp(410),
            },
        ],
        "peak_share": 0.74,
        "duration_s": ago_s * 0.3 if state == "firing" else ago_s * 0.6,
        "model_version": "en-zh-1.0-3f9c",
        "historic": False,
        "resolution": None if state == "firing" else "recovered",
        "category": "power",
        "phrases": [
            {"text": text, "complaints": n, "share": n / 101}
            for text, n in (("got hot", 48), ("battery swelled", 31), ("stopped charging", 27), ("鼓包", 9))
        ],
        "summary": [
            {"text": "The battery got so hot that I was afraid of a fire.", "complaints": 38},
            {"text": "It stopped charging after two days.", "complaints": 24},
        ],
        "vocabulary": "v3",
        "priors": "",
        "rate": rate if rule == "negative_rate" else None,
        "silenced_until": None,
        "acknowledged": None,
        **more,
    }


class World:
    """What the double answers, by scene."""

    def __init__(self, scene: str) -> None:
        self.scene = scene
        self.silences: list[dict[str, Any]] = []
        self.news: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        names = [
            "power-1",
            "audio-2",
            "kettles-1",
            "coffee-3",
            "shoes-1",
            "bags-2",
            "power-3",
            "lamps-1",
            "B00004TZTZ/blue edition",
            "toys-4",
        ]
        self.products = [*names, *(f"sku-{n:06}" for n in range(100_000 - len(names)))]
        self.alerts = (
            []
            if scene == "empty"
            else [
                alert("power-1", severity="critical"),
                alert(
                    "kettles-1",
                    rule="negative_rate",
                    ago_s=2_400.0,
                    acknowledged={"at": stamp(100), "author": "Ann", "note": "with the supplier"},
                ),
                alert("B00004TZTZ/blue edition", ago_s=6_000.0, silenced_until=stamp(-3_000)),
                alert("shoes-1", state="resolved", ago_s=9_000.0),
                alert("toys-4", state="resolved", ago_s=100_000.0, resolution="new_normal"),
            ]
        )
        if scene == "hostile":
            self.products = list(HOSTILE[:4])
            self.alerts = [
                alert(
                    text[:256],
                    rule=HOSTILE[0],
                    category=HOSTILE[1][:200],
                    ago_s=300.0 + n,
                    quotes=[
                        {"event_id": "e", "text": each, "p_negative": 0.9, "event_time": stamp(60)}
                        for each in HOSTILE
                    ],
                    phrases=[{"text": HOSTILE[0], "complaints": 3, "share": 0.5}],
                    summary=[{"text": HOSTILE[2], "complaints": 2}],
                    acknowledged={"at": stamp(), "author": HOSTILE[0], "note": HOSTILE[1]},
                )
                for n, text in enumerate(HOSTILE[:4])
            ]

    @property
    def is_empty(self) -> bool:
        return self.scene == "empty"

    def overview(self) -> dict[str, Any]:
        firing = [each for each in self.alerts if each["state"] == "firing"]
        none = self.is_empty
        totals = {
            channel: {
                "counted": n,
                "dead": n // 90,
                "skipped": n // 3 if channel == "chats" else 0,
                "duplicate": 4,
                "late": n // 50,
                "missing": 0,
            }
            for channel, n in (("reviews", 1_284_220), ("chats", 402_131))
        }
        return {
            "at": stamp(),
            "events_per_s": 0.0 if none else 1_234.5 + random.uniform(-50, 50),
            "lag": 0 if none else random.randrange(40),
            "latency_p50_ms": None if none else 18.2,
            "latency_p99_ms": None if none else 131.0,
            "workers": []
            if none
            else [
                {
                    "name": "worker-7f9c-1",
                    "model_version": "en-zh-1.0-3f9c",
                    "provider": "CPUExecutionProvider",
                    "events_per_s": 640.0,
                    "partitions": 4,
                },
                {
                    "name": "worker-7f9c-2",
                    "model_version": "en-zh-1.0-3f9c",
                    "provider": "CPUExecutionProvider",
                    "events_per_s": 594.0,
                    "partitions": 4,
                },
            ],
            "products": 0 if none else len(self.products),
            "negative_share": dict.fromkeys(("5m", "1h", "24h"))
            if none
            else {"5m": 0.141, "1h": 0.122, "24h": 0.096},
            "events": dict.fromkeys(("5m", "1h", "24h"), 0)
            if none
            else {"5m": 370_120, "1h": 4_443_000, "24h": 91_204_331},
            "firing": len(firing),
            "critical": sum(each["severity"] == "critical" for each in firing),
            "totals": {} if none else totals,
            "redis_ok": True,
            "kafka_ok": True,
        }

    def series(self, window: str, product_id: str | None, points: int | None = None) -> dict[str, Any]:
        width_s, number = WINDOWS[window]
        start = datetime.now(UTC).timestamp() // width_s * width_s - (number - 1) * width_s
        chance = random.Random(f"{product_id}{window}{start}")
        is_bad = product_id in {"power-1", "kettles-1"}
        made = []
        for n in range(number):
            events = (
                0
                if self.is_empty or (product_id == "lamps-1" and n % 3)
                else int(
                    (3_000 if product_id is None else 24)
                    * (1 + 0.3 * math.sin(n / 6))
                    * chance.uniform(0.8, 1.2)
                )
            )
            share = (
                (0.10 if product_id is None else 0.09)
                + (0.5 if is_bad and n > number * 0.8 else 0.03 if n > number * 0.8 else 0)
                + chance.uniform(-0.02, 0.02)
            )
            negative = int(events * share)
            at = datetime.fromtimestamp(start + n * width_s, UTC).isoformat().replace("+00:00", "Z")
            made.append(
                {
                    "at": at,
                    "negative": negative,
                    "neutral": events // 12,
                    "positive": events - negative - events // 12,
                    "mean_sentiment": 0.5 if events else None,
                }
            )
        return {
            "product_id": product_id,
            "window": window,
            "width_s": width_s,
            "points": made[-points:] if points else made,
        }

    def counts(self, product: str, window: str) -> dict[str, Any]:
        chance = random.Random(product)
        factor = {"5m": 1, "1h": 12, "24h": 250, "7d": 1_700, "all": 9_000}[window]
        events = 0 if self.is_empty else int(chance.uniform(20, 60) * factor)
        share = 0.68 if product == "power-1" and factor < 13 else chance.uniform(0.05, 0.2)
        negative = int(events * share)
        return {
            "product_id": product,
            "window": window,
            "negative": negative,
            "neutral": events // 10,
            "positive": events - negative - events // 10,
            "events": events,
            "negative_share": negative / events if events else None,
            "mean_sentiment": 1 - 2 * share if events else None,
            "late": 12,
            "first_event_time": None if self.is_empty else "2026-01-05T10:00:00Z",
            "last_event_time": None if self.is_empty else stamp(3),
        }

    def leaders(self, window: str, by: str) -> list[dict[str, Any]]:
        if self.is_empty:
            return []
        key = {"negative_share": "negative_share", "negative": "negative", "events": "events"}[by]
        return sorted((self.counts(each, window) for each in self.products[:10]), key=lambda each: -each[key])


def app(world: World) -> Litestar:
    """The double as an ASGI application."""

    def who(request: Request[Any, Any, Any]) -> dict[str, Any]:
        is_in = world.scene != "shut" or request.cookies.get("fake") == "in"
        return {
            "scopes": ["ingest", "operate", "read"] if is_in else [],
            "needs_token": world.scene == "shut",
        }

    def guard(request: Any, _: Any) -> None:
        from litestar.exceptions import NotAuthorizedException  # noqa: PLC0415

        if not who(request)["scopes"]:
            raise NotAuthorizedException("A token is needed.")

    @get("/api/v1/session")
    async def session(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return who(request)

    @post("/api/v1/session", status_code=200)
    async def enter(data: dict[str, str]) -> Response[dict[str, Any]]:
        if data["token"] != "open-sesame":
            return Response({"error": "There is no such token."}, status_code=401)
        answer: Response[dict[str, Any]] = Response({"scopes": ["read"], "needs_token": True})
        answer.set_cookie("fake", "in", httponly=True, samesite="strict")
        return answer

    @get("/api/v1/overview", guards=[guard])
    async def overview() -> dict[str, Any]:
        return world.overview()

    @get("/api/v1/series")
    async def series(window: str, product_id: str | None = None) -> dict[str, Any]:
        return world.series(window, product_id)

    @get("/api/v1/counters")
    async def counters(product_id: str) -> dict[str, Any]:
        return {"products": [world.counts(product_id, each) for each in ("5m", "1h", "24h", "7d", "all")]}

    @get("/api/v1/leaders")
    async def leaders(window: str, by: str) -> dict[str, Any]:
        return {"products": world.leaders(window, by)}

    @get("/api/v1/products")
    async def products(search: str, limit: int) -> dict[str, Any]:
        return {"products": [each for each in world.products if search.lower() in each.lower()][:limit]}

    @get("/api/v1/baseline")
    async def baseline() -> dict[str, Any]:
        return {
            "baselines": []
            if world.is_empty
            else [{"channel": "reviews", "share": 0.091, "interval": [0.07, 0.11], "events": 1200.0}]
        }

    @get("/api/v1/alerts")
    async def alerts(request: Request[Any, Any, Any]) -> dict[str, Any]:
        wanted = {
            name: value
            for name, value in request.query_params.items()
            if name in {"state", "severity", "product_id", "category", "rule"}
        }
        return {
            "alerts": [
                each for each in world.alerts if all(each[name] == value for name, value in wanted.items())
            ],
            "next": None,
        }

    @get("/api/v1/alerts/transitions")
    async def transitions() -> dict[str, Any]:
        return {"alerts": []}

    @get("/api/v1/silences")
    async def silences() -> dict[str, Any]:
        return {"silences": world.silences}

    @post("/api/v1/silences")
    async def silence(data: dict[str, Any]) -> dict[str, Any]:
        made = {
            "id": f"{random.getrandbits(32):08x}",
            "on": True,
            "start": stamp(),
            "end": stamp(-7_200),
            "author": "",
            "product": None,
            "category": None,
            "pattern": None,
            "rule": None,
            "everything": False,
            **data,
        }
        world.silences.append(made)
        for each in world.alerts:
            if each["product_id"] == data.get("product"):
                each["silenced_until"] = made["end"]
        world.news.put_nowait(("silences", {"silences": world.silences}))
        return made

    @delete("/api/v1/silences/{silence_id:str}", status_code=200)
    async def end(silence_id: str) -> dict[str, Any]:
        (ended,) = [each for each in world.silences if each["id"] == silence_id]
        world.silences.remove(ended)
        for each in world.alerts:
            if each["product_id"] == ended["product"]:
                each["silenced_until"] = None
        return ended

    @post("/api/v1/acknowledgements")
    async def acknowledge(data: dict[str, Any]) -> dict[str, Any]:
        word = {"at": stamp(), "author": data.get("author", ""), "note": data.get("note", "")}
        for each in world.alerts:
            if each["id"] == data["alert_id"]:
                each["acknowledged"] = word
        return word

    @get("/api/v1/live", guards=[guard])
    async def live(product_id: str | None = None) -> Stream:
        async def events() -> AsyncIterator[str]:
            turn = 0
            while True:
                yield f"event: overview\ndata: {json.dumps(world.overview())}\n\n"
                if turn % 3 == 0:
                    yield f"event: leaders\ndata: {json.dumps({'window': '1h', 'products': world.leaders('1h', 'negative_share')})}\n\n"
                if product_id:
                    update = {
                        "counters": [
                            world.counts(product_id, each) for each in ("5m", "1h", "24h", "7d", "all")
                        ],
                        "series_tail": world.series("1h", product_id, 2),
                    }
                    yield f"event: product\ndata: {json.dumps(update)}\n\n"
                turn += 1
                try:
                    name, value = await asyncio.wait_for(world.news.get(), 1.5)
                    yield f"event: {name}\ndata: {json.dumps(value)}\n\n"
                except TimeoutError:
                    pass

        return Stream(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    handlers = [
        session,
        enter,
        overview,
        series,
        counters,
        leaders,
        products,
        baseline,
        alerts,
        transitions,
        silences,
        silence,
        end,
        acknowledge,
        live,
    ]
    return Litestar([*handlers, *pages.part(None).handlers], logging_config=None, openapi_config=None)  # type: ignore[arg-type]


if __name__ == "__main__":
    import uvicorn

    parser = argparse.ArgumentParser()
    parser.add_argument("--scene", default="busy")
    parser.add_argument("--port", type=int, default=8010)
    given = parser.parse_args()
    uvicorn.run(app(World(given.scene)), host="127.0.0.1", port=given.port, log_level="warning")
