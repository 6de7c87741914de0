"""The drill: real faults on servers of our own, judged by the alert rules that are deployed.

    durations.py    rule files in which a minute lasts a second
    prometheus.py   Prometheus itself, and what fires
    load.py         events at a steady pace, and what must become of each
    worker.py       a worker with a model that is slow, or that a text kills
    fleet.py        workers, started again when they end, as a supervisor does
    bundles.py      a bundle that says the contrary
    scene.py        all of it together, and the reckoning
    faults.py       the faults: what happens, which rules must fire, what the runbook says to do
    run.py          one fault after another

Rules:
- Nothing is pretended: a fault is caused, metrics are scraped from a worker, and the rule files are read by
  Prometheus. Only time is shorter, by one stated factor.
- It touches no servers but those it starts.
"""
