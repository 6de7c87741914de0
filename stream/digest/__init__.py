"""A day's digest: what went well and badly, by category, as HTML files that need no network.

``read`` gathers counts, alerts, categories and dead letters; ``compose`` decides what is worth telling, with
no I/O; ``words`` says it in English or Chinese; ``pages`` makes the files.
"""
