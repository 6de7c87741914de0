"""Prints what people are to be told now: silences heeded, hovering damped, many products as one incident.

python docs/examples/follow_notifications.py
"""

from __future__ import annotations

from stream.client import Notifications


def main() -> None:
    """Prints what is due and ends; iterate over ``notifications`` itself to follow."""
    with Notifications(group="example-pager", from_beginning=True) as notifications:
        for each in notifications.available():
            about = each.alert.product_id if each.alert else f"{each.kind}"
            print(each.id, each.state, each.severity, about)


if __name__ == "__main__":
    main()
