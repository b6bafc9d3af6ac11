"""`make bench`: real servers and processes, each measurement beside its baseline.

`BENCH=quick`: a first look; `BENCH=long`: also what is large.
"""

import os
import sys
import time

from . import accepting, admin, applying, console, ledger, letters, machine, reconciling, resetting, sustaining, usage
from .installation import installed
from .scale import FULL, LONG, QUICK

SCALES = {"quick": QUICK, "full": FULL, "long": LONG}


def main() -> None:
    wanted = os.environ.get("BENCH") or "full"
    if wanted not in SCALES:
        sys.exit("BENCH is quick, full (the default) or long.")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    scale, begun = SCALES[wanted], time.monotonic()
    print(f"{machine.describe()}\n{wanted} run\n")
    with installed(scale.organizations) as installation:
        accepted = accepting.run(installation, scale)
        applying.run(installation, scale)
        sustaining.run(installation, scale, accepted)
        admin.run(installation, scale)
        with ledger.filled(installation, scale) as uri:
            letters.run(installation, scale, uri)
            console.run(installation, scale, uri)
        reconciling.run(installation, scale)
        usage.run(installation, scale)
        resetting.run(installation, scale)
    print(f"\n{time.monotonic() - begun:.0f} s in all")


if __name__ == "__main__":
    main()
