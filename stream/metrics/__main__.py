"""``python -m stream.metrics`` prints docs/metrics.md."""

from stream.metrics.catalogue import markdown

INTRODUCTION = """# Metrics

Printed by `python -m stream.metrics`; a test keeps it so. With `REVIEWPULSE_HEALTH=127.0.0.1:9100` (or
another address) `reviewpulse worker`, `web` and `notify` serve them at `/metrics` beside `/livez` and
`/readyz`, in Prometheus' text format. It has no password and holds no secret, no product, no author and no
text; still, it is for your own network. Each process of a host needs a port of its own.

Counters are of one process and begin at 0 with it. What the whole fleet has counted is in Redis
(`reviewpulse counters`); the two agree but for what a process could not know: an atomic step whose answer got
lost is in Redis and not here. Histograms have `_bucket`, `_sum` and `_count`.
"""


def page() -> str:
    """The whole page."""
    return f"{INTRODUCTION}\n{markdown()}"


if __name__ == "__main__":
    print(page(), end="")
