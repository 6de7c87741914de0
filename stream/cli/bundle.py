"""``reviewpulse bundle``: looks at bundles, and changes the one that the workers score with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from stream.core.reference import FEATURES
from stream.core.shadow import Gates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.bundle import Manifest
    from stream.cli.report import Row
    from stream.core.reference import Binned
    from stream.promote import Answer, Outcome, Wish
    from stream.settings import Settings

bundle = typer.Typer(
    help="Model bundles: checks and compares them, and changes the one that running workers score with.",
    no_args_is_help=True,
)

GATES = Gates()
"""The defaults."""

Folder = typer.Argument(metavar="DIR", help="The bundle's folder.")
AsJson = typer.Option(False, "--json", help="One JSON object instead of lines.")


@bundle.command("verify")
def verify(folder: Path = Folder, as_json: bool = AsJson) -> None:
    """Says whether a bundle can be scored with: checksums, opset, tokenizer, labels, invariance.

    It is loaded as a worker loads it, on this machine. Exit code 1 when something is wrong with it, 2 when
    there is no bundle.

    With `--json`: `{"ok": bool, "version", "checks": [{"name", "ok", "detail"}]}`.
    """
    from stream.bundle import load_manifest
    from stream.cli.report import Row, print_rows
    from stream.cli.terminal import print_json
    from stream.scorer.check import examine
    from stream.settings import load

    manifest = load_manifest(folder)
    checks = examine(load(bundle=folder))
    ok = all(each.ok for each in checks)
    if as_json:
        print_json({"ok": ok, "version": manifest.version, "checks": [each._asdict() for each in checks]})
    else:
        print_rows([Row("ok" if each.ok else "fail", each.name, each.detail) for each in checks])
    if not ok:
        raise typer.Exit(1)


@bundle.command("keygen")
def keygen(
    key: Path = typer.Argument(
        metavar="FILE", help="Where the private key goes; FILE.pub takes the public one."
    ),
) -> None:
    """Makes a pair of keys (Ed25519, PEM): one half signs bundles, the other goes to every worker.

    Keep the private one where releases are made, not where workers run. Exit code 2 where a file is there.
    """
    from pathlib import Path as AnyPath

    from stream.signature import make_keys

    public = AnyPath(f"{key}.pub")
    make_keys(key, public)
    print(f"{key} signs bundles: keep it secret. Workers get REVIEWPULSE_BUNDLE_KEY={public}.")


@bundle.command("sign")
def sign(
    folder: Path = Folder,
    key: Path = typer.Option(..., "--key", metavar="FILE", help="The private key, from `bundle keygen`."),
) -> None:
    """Signs a bundle: writes `manifest.sig` beside the manifest, which has the checksums of all other files.

    The bundle is verified first. Where REVIEWPULSE_BUNDLE_KEY names the public key, workers, `promote` and
    `verify` refuse every other bundle. Exit code 2 when the bundle or the key is not right.
    """
    from stream.bundle import sign as sign_bundle

    manifest = sign_bundle(folder, key)
    print(f"{folder} is signed: {manifest.name} {manifest.version}.")


@bundle.command("show")
def show(folder: Path = Folder, as_json: bool = AsJson) -> None:
    """What a bundle says of itself; its files are not read.

    With `--json`: its manifest.
    """
    from stream.bundle import load_manifest
    from stream.cli.report import Row, print_rows
    from stream.cli.terminal import print_json

    manifest = load_manifest(folder)
    if as_json:
        print_json(manifest)
        return
    rows = [Row("", name, value) for name, value in _facts(manifest).items()]
    for metric in manifest.metrics:
        low, high = metric.interval
        said = f"{metric.name} {metric.value:.3f} ({low:.3f} to {high:.3f}), {metric.rows:,} texts"
        rows.append(Row("", metric.dataset, said))
    print_rows(rows)


@bundle.command("diff")
def diff(
    a: Path = typer.Argument(metavar="A", help="A bundle's folder."),
    b: Path = typer.Argument(metavar="B", help="Another's."),
    texts: str | None = typer.Option(
        None, help="JSON lines with a `text`, also .gz: both score the first 1,024 of them."
    ),
    as_json: bool = AsJson,
) -> None:
    """How two bundles differ: manifest, files, figures; and what they make of the same texts.

    Exit code 1 when they differ.

    With `--json`: `{"differ": bool, "facts": {name: [a, b]}, "files": {name: [a, b]}, "metrics": {"set,
    figure": [a, b]}, "texts": {"texts", "agreement", "shift", "slowdown"} or null}`.
    """
    from stream.bench.scorer import read_reviews
    from stream.bundle import load_manifest
    from stream.cli.report import Row, print_rows
    from stream.cli.terminal import print_json
    from stream.scorer.check import compare

    one, other = load_manifest(a), load_manifest(b)
    facts = _differences(_facts(one), _facts(other))
    files = _differences(dict(one.files), dict(other.files))
    figures = [{f"{m.dataset}, {m.name}": f"{m.value:.4f}" for m in each.metrics} for each in (one, other)]
    metrics = _differences(*figures)
    compared = compare(a, b, read_reviews(texts, 1024)) if texts else None
    is_different = bool(facts or files or metrics)
    if as_json:
        print_json(
            {
                "differ": is_different,
                "facts": facts,
                "files": files,
                "metrics": metrics,
                "texts": compared and _sums(compared),
            }
        )
    else:
        rows = [Row("differs", name, f"{x} | {y}") for name, (x, y) in (facts | metrics).items()]
        rows += [
            Row("differs", name, f"{(x or 'absent')[:12]} | {(y or 'absent')[:12]}")
            for name, (x, y) in files.items()
        ]
        if compared:
            rows.append(Row("", "texts", _said(compared)))
        print_rows(rows or [Row("ok", "bundles", "they are the same")])
    if is_different:
        raise typer.Exit(1)


@bundle.command("promote")
def promote(
    folder: Path = Folder,
    texts: int = typer.Option(GATES.texts, min=1, max=100_000, help="Live texts to compare on."),
    share: float = typer.Option(
        GATES.share, min=0.01, max=1.0, help="Most of a worker's scoring time that comparing may take."
    ),
    agreement: float = typer.Option(
        GATES.agreement, min=0.0, max=1.0, help="Least share of texts with the same label."
    ),
    shift: float = typer.Option(
        GATES.shift, min=0.0, max=1.0, help="Most that the mean of P(negative) may move."
    ),
    confidence: float = typer.Option(
        GATES.confidence,
        min=0.0,
        max=1.0,
        help="Most that confidence above the manifests' accuracy may differ.",
    ),
    slowdown: float = typer.Option(
        GATES.slowdown, min=0.0, help="Most time a text may take, in times of what it takes now."
    ),
    wait: float = typer.Option(300.0, min=0.0, help="Seconds to wait for so many live texts."),
    force: bool = typer.Option(
        False, "--force", help="No comparison: it is enough that every worker at work can load it."
    ),
    as_json: bool = AsJson,
) -> None:
    """Makes running workers score with another bundle, without a restart, if it stands a comparison.

    Every worker loads it beside its own, and scores live texts with both; nothing of that is counted. If no
    worker refuses, all of them switch between two batches; if one does, nothing has changed. Workers that
    start later load it, too. The folder must be where it is on every worker's machine.

    Exit codes: 0 promoted, and every worker scores with it; 1 refused, with reasons, or a worker has not
    switched yet; 2 there is no bundle, or another promotion is under way; 3 Redis fails; 130 interrupted,
    nothing has changed.

    With `--json`: `{"promoted": bool, "version", "reasons": [str], "workers": [{"worker", "state", "reasons",
    "texts", "agreement", "shift", "slowdown"}], "texts", "agreement", "shift", "slowdown"}`.
    """
    from stream import bundle as bundles
    from stream.errors import BundleError
    from stream.promote import Wish
    from stream.promotion import named
    from stream.settings import load

    settings = load()
    manifest = bundles.load_manifest(folder)
    try:
        bundles.verify(folder, settings.bundle_key)
    except BundleError as error:
        _end(_refused(str(error)), manifest.version, as_json=as_json)
    if manifest.forced and not force:
        why = f"it was exported against its parity gate ({'; '.join(manifest.forced)}); --force promotes it"
        _end(_refused(why), manifest.version, as_json=as_json)
    gates = Gates(
        texts=texts,
        share=share,
        agreement=agreement,
        shift=max(shift, 1e-9),
        confidence=max(confidence, 1e-9),
        slowdown=max(slowdown, 1e-9),
    )
    wish = Wish(named(folder, manifest), gates, compares=not force, wait_s=wait, alone=force)
    _end(_promote(settings, wish, as_json=as_json), manifest.version, as_json=as_json)


@bundle.command("rollback")
def rollback(
    wait: float = typer.Option(60.0, min=0.0, help="Seconds that every worker has to load it."),
    as_json: bool = AsJson,
) -> None:
    """Makes running workers score with the bundle before the one promoted last; again, and it is back.

    Nothing is compared: the workers only have to load it. Before the first promotion it is what each of them
    is configured with.

    Exit codes and `--json` as of `promote`.
    """
    import asyncio

    from stream.promote import Promoter, Wish, previous
    from stream.settings import load

    settings = load()

    async def find() -> Any:
        async with Promoter(settings) as promoter:
            return previous(await promoter.found())

    before = asyncio.run(find())
    version = before.version if before else "what each worker is configured with"
    wish = Wish(before, compares=False, wait_s=wait, alone=True)
    _end(_promote(settings, wish, as_json=as_json), version, as_json=as_json)


@bundle.command("status")
def status(as_json: bool = AsJson) -> None:
    """Which bundle was promoted, by whom, what each worker scores with, and where models changed.

    With `--json`: `{"promotion": what was promoted or null, "proposal": what is proposed or null, "workers":
    [{"worker", "version", "state", "reasons"}], "changes": {partition: [[offset, version]]}}`.
    """
    import asyncio

    from stream.cli.report import Row, print_rows
    from stream.cli.terminal import print_json
    from stream.promote import Promoter
    from stream.settings import load

    settings = load()

    async def look() -> Any:
        async with Promoter(settings) as promoter:
            return await promoter.found(), await promoter.workers(), await promoter.changes()

    (promotion, proposal, _), workers, changes = asyncio.run(look())
    if as_json:
        at_work = [
            {
                "worker": each.name,
                "version": each.model_version,
                "state": each.swap.state if each.swap else "",
                "reasons": each.swap.reasons if each.swap else [],
            }
            for each in workers
        ]
        print_json({"promotion": promotion, "proposal": proposal, "workers": at_work, "changes": changes})
        return
    rows = [Row("", "promoted", "nothing: each worker scores with what it is configured with")]
    if promotion:
        what = promotion.bundle
        said = f"{what.version} ({what.path})" if what else "what each worker is configured with"
        rows = [Row("", "promoted", f"{said}, by {promotion.by} at {promotion.at}")]
    if proposal:
        said = proposal.bundle.version if proposal.bundle else "what each worker is configured with"
        rows.append(Row("", "proposed", f"{said}, by {proposal.by} at {proposal.at}"))
    for each in workers:
        state = f", {each.swap.state}" if each.swap and each.swap.state else ""
        rows.append(Row("", each.name, f"scores with {each.model_version}{state}"))
    for partition, models in sorted(changes.items()):
        said = ", ".join(f"{version} from offset {offset}" for offset, version in models)
        rows.append(Row("", partition, said))
    print_rows(rows)


def _promote(settings: Settings, wish: Wish, *, as_json: bool) -> Outcome:
    from stream.cli.moving import run_interruptible
    from stream.cli.report import print_rows
    from stream.promote import Promoter

    def say(answers: Sequence[Answer]) -> None:
        if not as_json:
            print_rows([_row(each) for each in answers])

    async def work() -> Outcome:
        async with Promoter(settings, say) as promoter:
            return await promoter.promote(wish)

    return run_interruptible(
        work(), "Interrupted. `reviewpulse bundle status` says what the workers score with; run it again."
    )


def _end(outcome: Outcome, version: str, *, as_json: bool) -> NoReturn:
    """Says how it ended, and ends with the exit code."""
    from stream.cli.terminal import output, print_json, printable

    failed = bool(outcome.reasons)
    if as_json:
        workers = [
            {
                "worker": each.worker,
                "state": each.state,
                "reasons": list(each.reasons),
                **_sums(each.compared),
            }
            for each in outcome.answers
        ]
        print_json(
            {
                "promoted": outcome.promoted,
                "version": version,
                "reasons": list(outcome.reasons),
                "workers": workers,
                **_sums(outcome.compared),
            }
        )
    else:
        out = output()
        said = "promoted" if outcome.promoted else "refused; nothing has changed"
        texts = f" ({_said(outcome.compared)})" if outcome.compared.texts else ""
        out.print(f"{printable(version)}: {said}{texts}", markup=False, soft_wrap=True)
        for reason in outcome.reasons:
            out.print(f"  - {printable(reason)}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


@bundle.command("reference")
def reference(
    folder: Path = Folder,
    texts: str = typer.Argument(
        metavar="FILE", help="JSON lines with a `text`, also .gz: your own stream's."
    ),
    most: int = typer.Option(5_000, min=500, help="How many of them, from the beginning."),
    as_json: bool = AsJson,
) -> None:
    """Has the metric `reviewpulse_input_drift` compare with texts of your own.

    They are scored once, and how long they are, in which language and how negative goes into the bundle's
    manifest: counts, no text. The version stays, but a promotion names a bundle by its manifest's checksum:
    do this before you promote it, and copy the same manifest to every machine.

    With `--json`: the reference, as the manifest has it.
    """
    from stream.bench.scorer import read_reviews
    from stream.cli.report import Row, print_rows
    from stream.cli.terminal import print_json
    from stream.scorer.load import load_scorer
    from stream.scorer.reference import write_reference
    from stream.settings import load

    found = read_reviews(texts, most)
    made = write_reference(
        folder, load_scorer(load(bundle=folder)), found, f"{len(found):,} of {Path(texts).name}"
    )
    if as_json:
        print_json(made)
        return
    print_rows([Row("", feature, _binned(made.of(feature))) for feature in FEATURES])


def _binned(binned: Binned) -> str:
    """Shares by bin.

    >>> from stream.core.reference import Binned
    >>> _binned(Binned(bounds=(8.0, 16.0), counts=(1, 2, 1)))
    'to 8: 25%, to 16: 50%, above: 25%'
    """
    total = sum(binned.counts)
    names = [*(f"to {bound:g}" for bound in binned.bounds), "above"]
    return ", ".join(f"{name}: {count / total:.0%}" for name, count in zip(names, binned.counts, strict=True))


def _refused(why: str) -> Outcome:
    from stream.core.shadow import Comparison
    from stream.promote import Outcome

    return Outcome(False, (why,), (), Comparison())


def _row(answer: Answer) -> Row:
    from stream.cli.report import Row

    detail = _said(answer.compared) if answer.compared.texts else ""
    return Row(answer.state, answer.worker, "; ".join((*answer.reasons, *([detail] if detail else []))))


def _said(compared: Any) -> str:
    slower = f", {compared.slowdown:.2f} times the time" if compared.seconds else ""
    return (
        f"{compared.texts} texts, the same label for {compared.agreement:.1%}, mean P(negative)"
        f" {compared.shift:+.3f}{slower}"
    )


def _sums(compared: Any) -> dict[str, Any]:
    texts = compared.texts
    return {
        "texts": texts,
        "agreement": round(compared.agreement, 4) if texts else None,
        "shift": round(compared.shift, 4) if texts else None,
        "slowdown": round(compared.slowdown, 3) if compared.seconds else None,
    }


def _facts(manifest: Manifest) -> dict[str, str]:
    sources = ", ".join(f"{each.name} ({each.licence})" for each in manifest.trained_on)
    return {
        "version": manifest.version,
        "created": manifest.created,
        "languages": ", ".join(manifest.languages),
        "labels": ", ".join(manifest.labels),
        "max_length": str(manifest.max_length),
        "temperature": f"{manifest.temperature:g}",
        "neutral_band": f"{manifest.neutral_band:g}",
        "precision": manifest.precision,
        "opset": str(manifest.opset),
        "base_model": f"{manifest.base_model} ({manifest.base_licence})",
        "trained_on": sources,
        "forced": "; ".join(manifest.forced) or "no",
    }


def _differences(a: dict[str, str], b: dict[str, str]) -> dict[str, tuple[str | None, str | None]]:
    return {name: (a.get(name), b.get(name)) for name in {**a, **b} if a.get(name) != b.get(name)}
