"""What a process says of itself to Prometheus.

    catalogue.py      every metric, as data; docs/metrics.md is printed from it
    distribution.py   counts by bucket, added to an array at a time
    families.py       values to Prometheus' text format; refuses what the catalogue does not have
    meter.py          what the pipeline tells; by default nobody listens
    worker.py         the meter that listens, and what is read of a worker when somebody asks
    lag.py, store.py  how far behind each partition is; the store's calls, timed
    vitals.py         health of processes without a watchdog
    page.py           the page ``/metrics``

What is read of the web server is in ``stream/web/measured.py``, of notify in ``stream/deliver/reading.py``.

Rules:
- Whoever works counts as he did before; metrics are read when somebody asks. Where a count must
  be kept for their sake it is one a window or a micro-batch, made with numpy: never a Python call an event.
- A label is one of a closed set, or is bounded by the configuration (topics, partitions, targets). Never a
  product, an author, a text or an error's words.
"""
