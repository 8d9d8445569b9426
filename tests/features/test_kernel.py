"""A compiled kernel is never older than what it was compiled from, callees in other files included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FILES = {
    "house/__init__.py": "",
    "house/inner.py": "from house.kernel import kernel\nFACTOR = 2\n\n@kernel\ndef inner(x):\n    return FACTOR * x\n",
    "house/outer.py": "from house.kernel import kernel\nfrom house.inner import inner\n\n@kernel\ndef outer(x):\n"
    "    return inner(x)\n",
}


def run(folder: Path) -> int:
    script = "from house.outer import outer; print(outer(21))"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_change_in_a_callee_or_constant_of_another_file_compiles_anew(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    source = Path(__file__).parents[2] / "features" / "kernel.py"
    (tmp_path / "house" / "kernel.py").write_text(source.read_text())
    assert run(tmp_path) == 42
    assert list((tmp_path / "house").rglob("*.nbi")), "it was cached"
    assert run(tmp_path) == 42
    (tmp_path / "house" / "inner.py").write_text(FILES["house/inner.py"].replace("FACTOR = 2", "FACTOR = 3"))
    assert run(tmp_path) == 63
