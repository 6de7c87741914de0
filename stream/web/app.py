"""The application: parts put together, one gate before them, one shape of errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import ClientException

from stream.web import api, document, errors, live, pages
from stream.web.gate import Gate, add_headers
from stream.web.shared import Shared
from stream.web.tokens import Tokens

if TYPE_CHECKING:
    from stream.settings import Settings

LARGEST_BODY_BYTES = 65_536
"""Of everything but events, which have limits of their own."""


class JsonRequest(Request[Any, Any, Any]):
    """Litestar's, which takes some bodies that are no JSON for a fault of ours."""

    async def json(self) -> Any:
        """The body, decoded.

        Raises:
            ClientException: it is not UTF-8, or nested too deeply; 400.
        """
        try:
            return await super().json()
        except UnicodeDecodeError:
            raise ClientException("The body is not UTF-8.") from None
        except RecursionError:
            raise ClientException("The body's JSON is nested too deeply.") from None


def create_app(settings: Settings) -> Litestar:
    """The application, which connects to nothing before it is started.

    Args:
        settings: of the server; where Kafka and Redis are, who may use it.

    Raises:
        UsageError: the settings are wrong.
    """
    written = settings.web_tokens
    tokens = Tokens.of(None if written is None else written.get_secret_value())
    shared = Shared(settings, tokens)
    parts = [api.part(shared), live.part(shared), pages.part(shared)]
    return Litestar(
        [handler for part in parts for handler in part.handlers],
        dependencies={"shared": Provide(lambda: shared, use_cache=True, sync_to_thread=False)},
        middleware=[Gate(settings, tokens)],
        before_send=[add_headers],
        exception_handlers=errors.HANDLERS,
        lifespan=[shared.running, *(context for part in parts for context in part.lifespan)],
        openapi_config=document.config(),
        request_class=JsonRequest,
        request_max_body_size=LARGEST_BODY_BYTES,
        state=State({"shared": shared}),
        logging_config=None,
        debug=False,
        pdb_on_exception=False,
    )
