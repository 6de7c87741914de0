"""The OpenAPI document: what Litestar knows of the handlers, and what it cannot know.

Rules:
- Every status that can be answered is there: those that come from the gate and the connection, too.
- Who needs which scope is read from the handlers' guards, so a new handler says it once.
- Bodies of events are the JSON Schemas of the topics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import msgspec
from litestar import Router
from litestar.constants import OPENAPI_JSON_HANDLER_NAME
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Tag
from litestar.routes import HTTPRoute

from stream import __version__
from stream.core.events import EVENT_TYPES
from stream.web.tokens import scope_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from litestar import Litestar, Request

UNSAFE = {"post", "put", "patch", "delete"}

REFUSALS = {
    "400": "The request is wrong; the sentence says how.",
    "401": "The token is wrong, or there is none and this needs one.",
    "403": "The token has not the scope that this needs, or the request came from another site's page.",
    "404": "There is no such thing.",
    "408": "The request came too slowly.",
    "413": "The body is too large.",
    "415": "The body is of another type than this takes.",
    "421": "The server does not answer to this `Host`.",
    "429": "Too much at once; come again after `Retry-After`.",
    "431": "The request's head is too large.",
    "503": "Redis, Kafka or the model is away; come again after `Retry-After`.",
}
WELL = {
    "200": "As it is.",
    "201": "Done.",
    "202": "All of it is in Kafka's log, acknowledged by every in-sync replica.",
}
EVERYWHERE = ("400", "401", "408", "421", "431")
_RETRY_AFTER: dict[str, Any] = {
    "headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "string"}, "required": True}}
}
HEADERS_OF: dict[str, dict[str, Any]] = {
    "401": {"headers": {"WWW-Authenticate": {"description": "How to ask.", "schema": {"type": "string"}}}},
    "429": _RETRY_AFTER,
    "503": _RETRY_AFTER,
}
EXAMPLE_TIME = "2026-11-23T10:00:00Z"
EXAMPLES = {
    "reviews": {
        "event_id": "r-1",
        "product_id": "B00004TZTZ",
        "text": "The battery died.",
        "rating": 1,
        "event_time": EXAMPLE_TIME,
    },
    "chats": {
        "event_id": "c-1",
        "conversation_id": "77",
        "product_id": "B00004TZTZ",
        "role": "customer",
        "text": "It will not charge.",
        "event_time": EXAMPLE_TIME,
    },
}

DESCRIPTION = """\
Counters, alerts and silences of Reviewpulse, and a way in for its events.

Times are RFC 3339 in UTC. Product ids are any text, so they are always query parameters or fields. Errors are
`{"error": "one sentence"}`. Where the server has tokens, send `Authorization: Bearer TOKEN`; each operation
says which scope it needs (`read`, `ingest`, `operate`).
"""


class Document(JsonRenderPlugin):
    """Serves the document, made once."""

    def __init__(self) -> None:
        super().__init__(path="/openapi.json")
        self._encoded: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The document as JSON."""
        if self._encoded is None:
            app = request.app
            self._encoded = msgspec.json.encode(completed(openapi_schema, scopes_of(app), structs_of(app)))
        return self._encoded


class _OnlyTheDocument(Router):
    """Litestar's router of documents without its page for unknown paths: the application answers those."""

    def register(self, value: Any) -> Any:
        if getattr(value, "name", None) != OPENAPI_JSON_HANDLER_NAME:
            return []
        return super().register(value)


def config() -> OpenAPIConfig:
    """What Litestar makes the document by."""
    return OpenAPIConfig(
        title="Reviewpulse",
        version=__version__,
        description=DESCRIPTION,
        use_handler_docstrings=True,
        render_plugins=[Document()],
        openapi_router=_OnlyTheDocument("/api/v1", route_handlers=[], include_in_schema=False),
        tags=[
            Tag("counters", "What is counted, by product and window."),
            Tag("alerts", "What is going on."),
            Tag("silences", "What people say about alerts."),
            Tag("events", "Reviews and chat lines on their way in."),
            Tag("scores", "What the model says of a text."),
            Tag("live", "What the page shows."),
            Tag("session", "Who you are."),
            Tag("health", "Whether the server is well."),
        ],
    )


def scopes_of(app: Litestar) -> dict[tuple[str, str], str | None]:
    """The scope that each operation needs, by path and method in lower case.

    Args:
        app: whose handlers.
    """
    return {
        (route.path_format, method.lower()): next(
            (scope for guard in handler.resolve_guards() if (scope := scope_of(guard)) is not None), None
        )
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method, (handler, _) in route.route_handler_map.items()
    }


def structs_of(app: Litestar) -> set[type[msgspec.Struct]]:
    """Every struct that a handler takes or gives.

    Args:
        app: whose handlers.
    """
    found: set[type[msgspec.Struct]] = set()
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler, _ in route.route_handler_map.values():
                taken = handler.parsed_data_field
                given = handler.responses or {}
                found.update(
                    each
                    for annotation in (
                        handler.parsed_fn_signature.return_type.annotation,
                        None if taken is None else taken.annotation,
                        *(spec.data_container for spec in given.values()),
                    )
                    for each in _structs_in(annotation)
                )
    return found


def completed(
    document: Mapping[str, Any],
    scopes: Mapping[tuple[str, str], str | None],
    structs: Iterable[type[msgspec.Struct]],
) -> dict[str, Any]:
    """The document with what Litestar cannot know.

    Args:
        document: as Litestar makes it.
        scopes: from ``scopes_of``.
        structs: from ``structs_of``; msgspec's own schemas of them say all that it checks, Litestar's do not.
    """
    whole: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    schemas = whole.setdefault("components", {}).setdefault("schemas", {})
    schemas["Error"] = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string", "description": "One sentence, for people."}},
        "examples": [{"error": "There is no such token."}],
    }
    schemas.update(_schemas([*EVENT_TYPES.values(), *structs]))
    whole["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "One of REVIEWPULSE_WEB_TOKENS."}
    }
    for path, method, operation in _operations(whole):
        _complete(path, method, operation, scopes.get((path, method)))
    return whole


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if isinstance(operation, dict) and "responses" in operation:
                yield path, method, operation


def _complete(path: str, method: str, operation: dict[str, Any], scope: str | None) -> None:
    responses = operation["responses"]
    for status, answer in responses.items():
        answer["description"] = WELL.get(status, answer["description"])
    for parameter in operation.get("parameters", ()):
        _without_null(parameter["schema"])
    if scope is not None:
        operation["security"] = [{"token": []}]
        operation["x-scope"] = scope
        operation["description"] = f"{operation.get('description', '')}\n\nNeeds the scope `{scope}`.".strip()
    channel = path.rsplit("/", 1)[-1]
    takes_events = path.startswith("/api/v1/") and channel in EVENT_TYPES
    if takes_events:
        operation["requestBody"] = _events_body(channel)
    for status in sorted(_refusals(path, method, operation, scope)):
        if status == "400" and takes_events:
            responses[status] = _answer(REFUSALS[status], "PartlyAccepted", "Error")
        elif status not in responses or status == "400":
            responses[status] = _answer(REFUSALS[status], "Error") | HEADERS_OF.get(status, {})


def _refusals(path: str, method: str, operation: Mapping[str, Any], scope: str | None) -> set[str]:
    """The statuses that an operation may be refused with."""
    statuses = {*EVERYWHERE}
    if scope is not None:
        statuses |= {"403", "503"}
    if method in UNSAFE:
        statuses.add("403")
    if operation.get("requestBody"):
        statuses |= {"413", "415"}
    if path.endswith(("/reviews", "/chats", "/score")):
        statuses.add("429")
    if "{" in path or path.endswith("/acknowledgements"):
        statuses.add("404")
    return statuses


def _without_null(schema: dict[str, Any]) -> None:
    """A parameter that is optional is left out; there is no way to write null in a URL."""
    if isinstance(schema.get("type"), list):
        kinds = [kind for kind in schema["type"] if kind != "null"]
        schema["type"] = kinds[0] if len(kinds) == 1 else kinds
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    kept = [each for each in schema.get("oneOf", ()) if each.get("type") != "null"]
    if len(kept) == 1:
        del schema["oneOf"]
        schema.update(kept[0])


def _answer(description: str, *schemas: str) -> dict[str, Any]:
    refs = [{"$ref": f"#/components/schemas/{name}"} for name in schemas]
    schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _events_body(channel: str) -> dict[str, Any]:
    example = EXAMPLES[channel]
    line = msgspec.json.encode(example).decode()
    return {
        "required": True,
        "description": "One event, or a batch with one event a line (blank lines are left out).",
        "content": {
            "application/json": {
                "schema": {"$ref": f"#/components/schemas/{EVENT_TYPES[channel].__name__}"},
                "examples": {"one": {"value": example}},
            },
            "application/x-ndjson": {
                "schema": {"type": "string", "minLength": 1},
                "examples": {"two": {"value": f"{line}\n{line}\n"}},
            },
        },
    }


def _structs_in(annotation: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for each in get_args(annotation):
        yield from _structs_in(each)


def _schemas(structs: Iterable[type[msgspec.Struct]]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    return components
