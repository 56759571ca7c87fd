"""Known vulnerabilities of the versions that requirements/ pins, by pip-audit; script/audit and script/lint run it.

pip-audit takes "not found" for an answer: behind a package mirror, which knows nothing of vulnerabilities, it says that
there are none. So what it could not ask about is counted here, and told.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REQUIRED = "FUSEFS_AUDIT"
"""Set to `required`, a package that nobody could be asked about is a failure."""
SECONDS = 60
_EACH_SECONDS = "5"


@dataclass(frozen=True, slots=True)
class Audit:
    """What came of it."""

    asked: int
    """How many packages there was an answer about."""
    missing: tuple[str, ...] = ()
    """Those that there was none about."""
    vulnerable: tuple[str, ...] = ()
    """A line for each vulnerability."""
    trouble: str = ""
    """Why there was no answer at all."""

    @property
    def complete(self) -> bool:
        return not self.missing and not self.trouble


def audit(requirements: Path) -> Audit:
    """Ask about every pinned package in a file."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps", "--disable-pip"]
    command += ["--vulnerability-service", "pypi", "--timeout", _EACH_SECONDS, "--format", "json"]
    command += ["--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return Audit(0, trouble=f"no answer within {SECONDS} seconds")
    except ValueError:
        return Audit(0, trouble=(done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1])
    return judged(found)


def judged(found: Any) -> Audit:
    """What pip-audit's JSON says."""
    packages = found["dependencies"]
    missing = tuple(package["name"] for package in packages if "skip_reason" in package)
    vulnerable = tuple(line for package in packages for line in _lines(package))
    return Audit(len(packages) - len(missing), missing, vulnerable)


def _lines(package: Any) -> Iterator[str]:
    for each in package.get("vulns", []):
        fixed = ", ".join(each["fix_versions"]) or "no version"
        yield f"{package['name']} {package['version']}: {each['id']}, repaired in {fixed}"


def told(found: Audit) -> Iterator[str]:
    """The lines that say what came of it."""
    yield from found.vulnerable
    if found.trouble:
        yield f"NOT AUDITED: {found.trouble}"
    elif found.missing:
        total = found.asked + len(found.missing)
        names = ", ".join(found.missing[:3]) + (", ..." if len(found.missing) > 3 else "")
        yield f"NOT AUDITED: PyPI tells nothing of {len(found.missing)} of {total} packages ({names})"
    if not found.complete:
        yield f"run script/audit where https://pypi.org can be reached; {REQUIRED}=required makes this a failure"
    elif not found.vulnerable:
        yield f"{found.asked} packages, none with a known vulnerability"


def failed(found: Audit, *, required: bool) -> bool:
    """Whether that is a reason to stop."""
    return bool(found.vulnerable) or (required and not found.complete)


def main(arguments: list[str]) -> int:
    """Audit the file named and say what came of it."""
    found = audit(Path(arguments[0]))
    for line in told(found):
        print(f"audit: {line}", file=sys.stderr)
    return int(failed(found, required=os.environ.get(REQUIRED) == "required"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
