"""What a process says of itself to Prometheus.

    catalogue.py      every metric, as data; docs/metrics.md is printed from it
    distribution.py   counts by bucket, added to an array at a time
    families.py       values to Prometheus' text format; refuses what the catalogue does not have
    worker.py, web.py, notify.py    what is read of each process when it is asked
    page.py           the page ``/metrics``

Rules:
- Whoever works counts as he did before; metrics are read when somebody asks (``collect``). Where a count must
  be kept for their sake it is one a window or a micro-batch, made with numpy: never a Python call an event.
- A label is one of a closed set, or is bounded by the configuration (topics, partitions, targets). Never a
  product, an author, a text or an error's words.
"""
