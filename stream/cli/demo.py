"""``reviewpulse demo``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads the annotation when it runs)
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.demo.view import Screen

SEED = 11


def demo(
    duration: float = typer.Option(
        90.0, min=30.0, max=3600.0, help="Seconds of live events; some history goes before them."
    ),
    headless: bool = typer.Option(
        False, "--headless", help="Lines instead of the live view, as when standard error is no terminal."
    ),
    seed: int = typer.Option(SEED, help="Another seed is another shop with other customers."),
    browser: bool = typer.Option(True, help="Opens the live page, where there is a live view and a display."),
    as_json: bool = typer.Option(False, "--json", help="The report as one line of JSON."),
    bundle: Path | None = typer.Option(None, help="Folder of the model bundle."),
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] | None = typer.Option(
        None, help="Where the model runs."
    ),
    screenshot: Path | None = typer.Option(
        None, hidden=True, help="Writes two pictures: NAME.svg of an incident, NAME-report.svg."
    ),
) -> None:
    """Everything at once, on this machine alone: watch customers turn against a product.

    Starts a broker, Valkey and a worker, and opens a shop whose best-selling power bank gets a bad batch of
    batteries part-way and recovers. Serves the live page meanwhile, and prints its address. Ends with a
    reconciliation: every event sent is counted, a dead letter, or skipped by rule.

    Exit code 0 when the sums agree, the bad product's alert fired (and, from 60 seconds on, resolved) and no
    other product's did; 1 when not, with a sentence for each thing that does not hold.

    With `--json`: `{"ok", "problems", "duration_s", "seed", "model_version", "provider", "latency_p50_ms",
    "latency_p99_ms", "channels": [{"channel", "sent", "meant", "counted", "dead", "skipped", "late"}],
    "products", "products_exact", "dead_letters": {reason: number}, "bad_product", "alerts": [transitions as
    on the alerts topic]}`.
    """
    import os
    import signal
    import sys

    from rich.console import Console

    from stream.cli.terminal import print_json
    from stream.demo import run, view
    from stream.demo.shop import Shop
    from stream.settings import load

    errors = Console(stderr=True, highlight=False)
    live = errors.is_terminal and not headless
    screen: Screen = view.LiveScreen(errors) if live else view.PlainScreen(errors)
    photographer = view.Photographer(screen)
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _interrupt)
    opens = browser and live and has_display(os.environ, sys.platform)
    on_page = _open_page if opens else _leave_page
    report = run.run(load(bundle=bundle, provider=provider), duration, seed, photographer, on_page)
    names = {product.product_id: product.name for product in Shop(seed).products}
    table = view.render_report(report, names)
    if as_json:
        print_json(report)
    else:
        Console(highlight=False).print(table)
    if screenshot and (best := photographer.best):
        screenshot.write_text(view.svg(lambda width: view.render(best, width)))
        report_file = screenshot.with_stem(f"{screenshot.stem}-report")
        report_file.write_text(view.svg(lambda _: table))
    if not report.ok:
        raise typer.Exit(1)


def has_display(environment: Mapping[str, str], platform: str) -> bool:
    """Whether a browser that is opened here is seen by whoever runs the demo.

    >>> has_display({"DISPLAY": ":0"}, "linux"), has_display({}, "linux"), has_display({}, "darwin")
    (True, False, True)
    >>> has_display({"SSH_CONNECTION": "10.0.0.2 22"}, "darwin")
    False
    """
    if platform == "darwin":
        return "SSH_CONNECTION" not in environment
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def _open_page(address: str) -> None:
    import threading
    import webbrowser

    # Some browsers' launchers wait until they are closed; the shop does not.
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _leave_page(_: str) -> None:
    pass


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
