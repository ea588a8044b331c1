"""What the documentation shows runs, and what is generated is not behind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_core as lc

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, flags=re.S))
def test_readme_python_runs(code: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(("word", "path"), [("cpp", "cpp/hello.cpp"), ("c", "c/hello.c")])
def test_readme_shows_the_examples_that_ctest_runs(word: str, path: str) -> None:
    shown = re.findall(rf"```{word}\n(.*?)```", README, flags=re.S)
    assert shown == [(ROOT / "examples" / path).read_text(encoding="utf-8")]


def test_readme_names_files_that_exist() -> None:
    for path in re.findall(r"\]\(([\w./]+)\)|`((?:examples|docs|scripts)/[\w./]+)`", README):
        name = path[0] or path[1]
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("tool", ["gen_docs.py", "gen_stubs.py"])
def test_generated_files_are_current(tool: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / tool), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_op_has_documentation_and_a_signature() -> None:
    for name in lc.op_names():
        function = getattr(lc, name)
        assert function.__doc__ and len(function.__doc__) > 20, name
    assert lc.attention.__text_signature__.startswith("(q, k, v, mask=None, causal=False")


def test_public_functions_are_documented() -> None:
    for name in lc.__all__:
        item = getattr(lc, name)
        if callable(item) and not isinstance(item, type):
            assert item.__doc__, name
