"""Fails where a source file has more than 800 lines; generated files are exempt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 800
SUFFIXES = {".c", ".cpp", ".h", ".hpp", ".inc", ".py", ".pyi", ".cmake", ".sh"}
FOLDERS = {
    "benchmarks",
    "cmake",
    "examples",
    "include",
    "python",
    "scripts",
    "src",
    "tests",
    "tools",
}


def source_files() -> list[Path]:
    """Tracked files and new ones that git does not ignore; all files where there is no checkout."""
    git = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if git.returncode == 0:
        paths = [Path(name) for name in git.stdout.split("\0") if name]
    else:
        top = [path for path in ROOT.iterdir() if path.is_file()]
        below = [path for name in FOLDERS for path in (ROOT / name).rglob("*") if path.is_file()]
        paths = [path.relative_to(ROOT) for path in top + below]
    wanted = [p for p in paths if p.parts[0] in FOLDERS or len(p.parts) == 1]
    return [p for p in wanted if p.suffix in SUFFIXES or p.parts[0] == "scripts"]


def main() -> int:
    checked = 0
    long = []
    for path in source_files():
        file = ROOT / path
        if not file.is_file():  # deleted, not yet committed
            continue
        lines = file.read_text(encoding="utf-8").splitlines()
        if any("GENERATED" in line for line in lines[:3]):
            continue
        checked += 1
        if len(lines) > LIMIT:
            long.append(f"{path}: {len(lines)} lines, limit {LIMIT}; split it by subject")
    if checked == 0:
        long.append("no source file found")
    print("\n".join(long) if long else f"{checked} files, none over {LIMIT} lines")
    return 1 if long else 0


if __name__ == "__main__":
    sys.exit(main())
