"""``reviewpulse counters`` and ``reviewpulse top``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from rich.table import Table

    from stream.client import ProductCounts


FIGURES_WIDTH = 65
"""Cells that the columns beside the product take, up to a million events each."""


def counters(
    product: str = typer.Argument(help="Product id."),
    window: str = typer.Option("5m,1h,24h,7d,all", help="One or more of these, separated by commas."),
    as_json: bool = typer.Option(False, "--json", help="One line of JSON a window."),
) -> None:
    """Counts of one product by label, its negative share and mean sentiment, in each window.

    With `--json`, a line a window: `{"product_id", "window", "negative", "neutral", "positive", "events",
    "negative_share", "mean_sentiment", "late", "first_event_time", "last_event_time"}`. Share and sentiment
    are null where the window holds no event; `late` and the two times are all-time.
    """
    from rich.text import Text

    from stream.cli.terminal import output, print_json, printable
    from stream.client import LiveCounters

    with LiveCounters() as live:
        found = live.windows(product, [each.strip() for each in window.split(",")])
    if as_json:
        for each in found:
            print_json(each)
        return
    table = _table("window", "negative", "neutral", "positive", "events", "share", "sentiment")
    for each in found:
        table.add_row(each.window, *_figures(each))
    out = output()
    out.print(Text(printable(product), "bold"), soft_wrap=True)
    out.print(table)
    all_time = found[-1]
    if all_time.last_event_time is None:
        out.print("No event of this product has been counted.")
    else:
        out.print(
            f"first event {_moment(all_time.first_event_time)}, last {_moment(all_time.last_event_time)},"
            f" {all_time.late:,} came late"
        )


def top(
    window: str = typer.Option("1h", help="5m, 1h, 24h, 7d or all."),
    by: Literal["negative_share", "negative", "events"] = typer.Option(
        "negative_share",
        help="`negative_share` goes by the lower end of the share's 95% interval, so that one bad review out"
        " of one does not lead.",
    ),
    min_events: int = typer.Option(1, min=1, help="Leaves out products with fewer events in the window."),
    limit: int = typer.Option(10, min=1, help="How many products at most."),
    as_json: bool = typer.Option(False, "--json", help="One line of JSON a product."),
) -> None:
    """The products that lead in a window: counts by label, share of negatives, mean sentiment.

    With `--json`, a line a product, best first, with the fields of `reviewpulse counters --json`.
    """
    from rich.text import Text

    from stream.cli.terminal import output, print_json, printable
    from stream.client import LiveCounters

    with LiveCounters() as live:
        leaders = live.leaders(window, by, min_events=min_events, limit=limit)
    if as_json:
        for each in leaders:
            print_json(each)
        return
    out = output()
    if not leaders:
        out.print(f"No product has {min_events:,} events in the window {window}.")
        return
    table = _table("product", "neg", "neu", "pos", "events", "share", "mean", "last event")
    for each in leaders:
        # A Text, for a string would be read as markup; cut by cells, for some characters take two.
        name = Text(printable(each.product_id))
        name.truncate(max(out.width - FIGURES_WIDTH, 12), overflow="ellipsis")
        table.add_row(name, *_figures(each), _moment(each.last_event_time))
    out.print(table)


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        is_figure = name not in ("window", "product", "last event")
        table.add_column(name, justify="right" if is_figure else "left", no_wrap=True)
    return table


def _figures(counts: ProductCounts) -> list[str]:
    share, mean = counts.negative_share, counts.mean_sentiment
    return [
        f"{counts.negative:,}",
        f"{counts.neutral:,}",
        f"{counts.positive:,}",
        f"{counts.events:,}",
        "-" if share is None else f"{share:.1%}",
        "-" if mean is None else f"{mean:+.2f}",
    ]


def _moment(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M}Z"
