"""Fetch the web UI's three libraries from npm into `static/vendor`: `python -m agentdur.ui.refresh_vendor`.

Rules of this file:
1. What is there is what npm has, but for the names of imports (a browser knows no package names) and the
   links to source maps; `manifest.json` says which file of which version, its licence and both checksums.
2. Versions are written here and nowhere else.
"""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

VENDOR = Path(__file__).parent / "static" / "vendor"
VERSIONS = {
    "preact": "11.2.0", "htm": "3.1.1", "@preact/signals": "2.11.4", "@preact/signals-core": "1.14.5",
}  # fmt: skip


class Module(NamedTuple):
    """One file: its package, where it is there, and its name here."""

    package: str
    source: str
    name: str


MODULES = (
    Module("preact", "dist/preact.mjs", "preact.js"),
    Module("preact", "hooks/dist/hooks.mjs", "hooks.js"),
    Module("htm", "dist/htm.module.js", "htm.js"),
    Module("@preact/signals", "dist/signals.module.js", "signals.js"),
    Module("@preact/signals-core", "dist/signals-core.module.js", "signals-core.js"),
)
NAMES = {
    "preact": "./preact.js", "preact/hooks": "./hooks.js", "@preact/signals-core": "./signals-core.js",
}  # fmt: skip


def main() -> None:
    """Fetch, rewrite, and write down what was fetched."""
    VENDOR.mkdir(parents=True, exist_ok=True)
    files: list[dict[str, Any]] = []
    licences: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for package, version in VERSIONS.items():
            unpacked, integrity = fetch(package, version, Path(folder))
            about = json.loads((unpacked / "package.json").read_text())
            licences.append(f"== {package} {version}\n\n{(unpacked / 'LICENSE').read_text().strip()}\n")
            for module in MODULES:
                if module.package == package:
                    text = rewritten((unpacked / module.source).read_text())
                    (VENDOR / module.name).write_text(text)
                    files.append(
                        {
                            "file": module.name, "package": package, "version": version,
                            "licence": about["license"], "source": module.source, "npm_integrity": integrity,
                            "sha256": sha256(text.encode()).hexdigest(),
                        }
                    )  # fmt: skip
    (VENDOR / "manifest.json").write_text(json.dumps(files, indent=2) + "\n")
    (VENDOR / "LICENSES.txt").write_text("\n".join(licences))


def fetch(package: str, version: str, folder: Path) -> tuple[Path, str]:
    """The unpacked package, and npm's checksum of it."""
    packed = subprocess.run(
        ["npm", "pack", "--json", f"{package}@{version}"],
        cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    (about,) = json.loads(packed.stdout)
    unpacked = folder / package.replace("/", "-")
    with tarfile.open(folder / about["filename"].replace("@", "").replace("/", "-")) as archive:
        archive.extractall(unpacked, filter="data")
    return unpacked / "package", about["integrity"]


def rewritten(text: str) -> str:
    """With imports that a browser finds, and no link to a source map that is not there."""
    text = re.sub(r"\n?//# sourceMappingURL=\S+\s*$", "\n", text)
    return re.sub(r'\bfrom ?"([^"]+)"', lambda m: f'from"{NAMES.get(m[1], m[1])}"', text)


if __name__ == "__main__":
    main()
