"""Asks for known weaknesses of the pinned packages; says so when nobody could tell. Exit codes: 0 none known, 1 some."""

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
        print(f"NOT AUDITED: the package index tells nothing of weaknesses; {len(packages)} packages were not looked at.")
    elif len(known) < len(packages):
        print(f"Not audited: {', '.join(each['name'] for each in packages if 'vulns' not in each)}.")
    weak = sum(bool(each["vulns"]) for each in known)
    print(f"{len(known)} of {len(packages)} packages audited, {weak} with known weaknesses.")
    sys.exit(1 if weak else 0)


if __name__ == "__main__":
    main()
