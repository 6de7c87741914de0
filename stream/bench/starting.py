"""What a worker does before it joins its group, phase by phase: run as a process of its own by the footprint.

``python -m stream.bench.starting`` prints JSON: seconds of wall clock and of CPU by phase. Its imports stand
inside, for they are what is measured.
"""

from __future__ import annotations

import json
import sys
import time


def main(began_at: float) -> None:
    """Goes through the phases.

    Args:
        began_at: when the process was begun, s since the epoch.
    """
    walls = {"interpreter": time.time() - began_at}
    cpus = {"interpreter": time.process_time()}
    wall, cpu = time.perf_counter(), time.process_time()

    def ended(phase: str) -> None:
        nonlocal wall, cpu
        walls[phase] = time.perf_counter() - wall
        cpus[phase] = time.process_time() - cpu
        wall, cpu = time.perf_counter(), time.process_time()

    import stream.cli.main

    stream.cli.main.command_line()
    ended("command line")
    import stream.worker
    from stream import bundle
    from stream.settings import load

    settings = load()
    ended("imports of the worker")
    manifest = bundle.verify(settings.bundle)
    ended("bundle's checksums")
    from stream.scorer.onnx import OnnxScorer

    ended("imports of the scorer")
    scorer = OnnxScorer(
        settings.bundle, manifest, provider="cpu", threads=settings.threads, device_id=settings.device_id
    )
    ended("bundle loaded")
    scorer.warm_up(settings.token_budget)
    ended("warm-up")
    print(json.dumps({name: [walls[name], cpus[name]] for name in walls}))


if __name__ == "__main__":
    main(float(sys.argv[1]))
