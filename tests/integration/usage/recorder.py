"""Records usage in a process of its own: an order comes in as a line of JSON, the answers go out as one."""

import json
import sys
from datetime import datetime

from bson import ObjectId


def answered(usage, plans, org_id, each):
    at = datetime.fromisoformat(each["at"])
    made = usage.record(org_id, each["key"], each["units"], plans=plans, now=at, settles=True)
    return {"key": made.key, "within": made.within, "used": made.used, "extras": made.extras, "week": made.week}


def main():
    from billing_service import create_app, observability, usage

    observability.configure("ERROR", sys.stderr)
    app = create_app()
    order = json.loads(sys.stdin.readline())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with app.app_context():
        org_id, plans = ObjectId(order["orgId"]), app.extensions["billing"].plans
        sys.stdout.write(json.dumps([answered(usage, plans, org_id, each) for each in order["usage"]]) + "\n")


if __name__ == "__main__":
    main()
