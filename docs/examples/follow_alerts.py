"""Prints alerts as they come, each transition once, also after a restart.

python docs/examples/follow_alerts.py         # until Ctrl-C
python docs/examples/follow_alerts.py --once  # what there is now
"""

from __future__ import annotations

import signal
import sys

from stream.client import Alert, AlertSubscriber


def show(alert: Alert) -> None:
    """One line an alert."""
    about = ", ".join(phrase.text for phrase in alert.phrases) or "-"
    print(
        f"{alert.state} {alert.severity} {alert.product_id}: {alert.current_share:.0%} negative,"
        f" usually {alert.baseline_share:.0%}; about: {about}",
        flush=True,
    )


def main() -> None:
    """Follows them under a group's name, which keeps the place."""
    with AlertSubscriber(group="example", from_beginning=True) as alerts:
        signal.signal(signal.SIGINT, lambda *_: alerts.stop())
        for alert in alerts.available() if "--once" in sys.argv else alerts:
            show(alert)  # finished when the next one is asked for


if __name__ == "__main__":
    main()
