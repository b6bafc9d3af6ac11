"""Asks for known weaknesses of the pinned packages, and says so when nobody could tell. Exit code 1: there are some."""

import json
import subprocess
import sys
from pathlib import Path

LOCKED = Path(__file__).parent / "run.txt"
COMMAND = [str(Path(sys.executable).parent / "pip-audit"), "--requirement", str(LOCKED), "--disable-pip"]


def main() -> None:
    done = subprocess.run(
        [*COMMAND, "--format", "json", "--progress-spinner", "off"], capture_output=True, text=True, check=False
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        sys.exit(f"The packages were NOT audited, pip-audit failed:\n{done.stderr.strip()}")
    known = [each for each in packages if "vulns" in each]
    for each in known:
        for weakness in each["vulns"]:
            mended = ", ".join(weakness["fix_versions"]) or "no version yet"
            print(f"{each['name']} {each['version']}: {weakness['id']}, mended in {mended}")
    if not known:
        print("NOT AUDITED: the package index that is used tells nothing of weaknesses.")
    elif len(known) < len(packages):
        print(f"Not audited: {', '.join(each['name'] for each in packages if 'vulns' not in each)}.")
    weak = sum(bool(each["vulns"]) for each in known)
    print(f"{len(known)} of {len(packages)} packages audited, {weak} with known weaknesses.")
    sys.exit(1 if weak else 0)


if __name__ == "__main__":
    main()
