"""``reviewpulse rebuild``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads the annotation when it runs)
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from stream.rebuild import Done, File
    from stream.redis_config import AsyncClient
    from stream.settings import Settings
    from stream.store.switch import Switch


def rebuild(
    replay: list[str] = typer.Option(
        [],
        metavar="FILE",
        help="Counts this file first: JSON lines as `ingest` takes, gzip or plain; reviews, or chats when"
        " written `chats=FILE`. As often as needed, in the order given.",
    ),
    bundle: Path | None = typer.Option(
        None,
        help="Folder of the model bundle to score with; by default the one that was promoted, if one was.",
    ),
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] | None = typer.Option(
        None, help="Where the model runs."
    ),
    scorer: Literal["onnx", "constant"] | None = typer.Option(
        None, help="`constant` gives every text the same score: for tests."
    ),
    allow_shorter: bool = typer.Option(
        False, "--allow-shorter", help="Goes on although Kafka no longer has the oldest records counted."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Says what would be read, and does nothing."),
    abort: bool = typer.Option(False, "--abort", help="Gives up a rebuild that was not finished."),
) -> None:
    """Counts everything again beside the live counters, then switches to the result at once.

    For a better model (`--bundle`), after a bug was fixed, or when counters were lost. Workers and readers go
    on meanwhile; for the moment of the switch workers wait. Nobody is notified of the past: afterwards
    subscribers are told only how the alerts that fire now differ from what they know.

    Kafka is read from its oldest record. History that it no longer has can be given as files; what is in a
    file and in Kafka, too, is counted twice. With another model, promote it afterwards:
    `reviewpulse bundle promote`.

    Ctrl-C or a crash leaves the live counters as they are, and the same command goes on where it was. Exit
    codes: 2 when it cannot be done now (the sentence says what to do), 3 when Kafka or Redis fails, 130 when
    interrupted.
    """
    import asyncio

    from stream import logs
    from stream.cli.moving import give_up, run_interruptible
    from stream.promotion import with_promoted
    from stream.rebuild import file_of
    from stream.settings import load

    settings = load(bundle=bundle, provider=provider, scorer=scorer)
    logs.configure(settings.model_copy(update={"log_level": "warning"}))
    if abort:
        print(asyncio.run(give_up(settings, "rebuild")))
        return
    if bundle is None:
        settings = with_promoted(settings)
    files = [file_of(each) for each in replay]
    if dry_run:
        asyncio.run(_plan(settings, files))
        return
    done = run_interruptible(
        _rebuild(settings, files, allow_shorter=allow_shorter),
        "Interrupted; the live counters are as they were. The same command goes on,"
        " `reviewpulse rebuild --abort` gives it up.",
    )
    print(
        f"{done.counted:,} records counted; generation {done.generation} is live. Workers waited"
        f" {done.standstill_s:.1f} s; {done.told} alert transitions are told."
    )


async def _rebuild(settings: Settings, files: list[File], *, allow_shorter: bool) -> Done:
    import asyncio

    from stream.cli.moving import holding_lock
    from stream.cli.terminal import status_line
    from stream.errors import UsageError
    from stream.rebuild import Rebuild
    from stream.scorer.load import load_scorer

    scorer = await asyncio.to_thread(load_scorer, settings)

    async def work(client: AsyncClient, switch: Switch) -> Done:
        job = Rebuild(client, switch, settings, scorer, files)
        late = [each.partition for each in await job.plan() if each.begins_late]
        if late and not files and not allow_shorter:
            raise UsageError(
                f"Kafka no longer has the oldest records of {', '.join(late)}, which the live counters have:"
                " the new ones would begin later. Give that history with --replay, or say --allow-shorter."
            )
        with status_line() as say:
            return await job.run(
                on_step=lambda at: say(
                    f"{at.doing}: {at.counted:,} records" + (f", {at.behind:,} behind" if at.behind else "")
                )
            )

    return await holding_lock(settings, work)


async def _plan(settings: Settings, files: list[File]) -> None:
    from stream.cli.terminal import printable
    from stream.rebuild import Rebuild
    from stream.redis_config import connect_async
    from stream.scorer.constant import ConstantScorer
    from stream.store.layout import Layout
    from stream.store.switch import Switch, new_owner

    client = connect_async(settings)
    try:
        switch = Switch(client, settings.namespace, new_owner())
        await switch.look(Layout(settings.namespace, settings.shards))
        plan = await Rebuild(client, switch, settings, ConstantScorer(), files).plan()
    finally:
        await client.aclose()
    for file in files:
        print(f"{printable(file.path)}: {file.size:,} bytes of {file.channel}")
    for each in plan:
        note = "; older records, which the live counters have, are gone" if each.begins_late else ""
        print(f"{each.partition}: {each.end - each.first:,} records, from offset {each.first:,}{note}")
    if (pending := switch.written.pending) is not None:
        print(f"A {pending.kind} is not finished: the same command goes on with it.")
