"""What people look at and other programs ask over HTTP: ``reviewpulse web``.

Rules:
- ``app.create_app`` makes the application of parts. Each part is a module here with a function
  ``part(shared)`` that returns a ``shared.Part``: its route handlers, and what runs as long as the server
  does.
  - ``stream.web.api``: counters, alerts, silences, scores, the way in for events, sessions, health.
  - ``stream.web.live``: overview, series, search, server-sent events; its lifespan keeps the live view.
  - ``stream.web.pages``: the page and what it is made of.
- What parts share is in ``shared.Shared``, made once by ``create_app``: settings, the clients of Redis, the
  alerts (``shared.alerts``, followed from Kafka once for all), the event that says the server ends
  (``shared.stopping``; whoever streams must end with it).
- A handler says which scope it asks: ``guards=[needs("read")]``, from ``stream.web.tokens``. One without a
  guard is open to everybody whom the server lets in, as the page's own files are.
- A sentence of ``ReviewpulseError`` is answered as ``{"error": sentence}``: an ``UsageError`` is 400, a
  ``DependencyError`` 503. Anything else that is raised is ours, logged, and 500 without a word of it.
"""
