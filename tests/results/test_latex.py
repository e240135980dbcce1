"""LaTeX sets every table of the paper and the widest of ours within its lines (Debian: texlive-latex-recommended)."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from erdp_core.agent_configs import METHODS
from results import make_tables
from results.paper_tables import PAPER_TABLES

DOCUMENT = r"""\documentclass[a4paper]{article}
\usepackage[margin=2.5cm]{geometry}
\usepackage{booktabs,graphicx}
\begin{document}
%s
\end{document}
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex: apt install texlive-latex-recommended")
def test_every_table_compiles(maker: Any, tmp_path: Path) -> None:
    for task in ("pointmaze-umaze", "pointmaze-medium"):
        for rank, method in enumerate(METHODS):
            for seed in range(5):
                maker.run(task, method, seed, [rank + 0.3 * seed - 5, 90.0 + seed])
    maker.plan()
    out = tmp_path / "out"
    for table in ("mazes", *map(str, PAPER_TABLES)):
        assert make_tables.main(["--table", table, "--ledger", str(maker.ledger.root), "--out", str(out)]) == 0
    files = sorted(out.glob("*.tex"))
    assert len(files) == 1 + len(PAPER_TABLES)
    inputs = "\n".join(rf"\input{{{path.name}}}\clearpage" for path in files)
    (out / "all.tex").write_text(DOCUMENT % inputs)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=out, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2_000:]
    assert re.findall(r"Overfull \\hbox.*|.*undefined.*", done.stdout) == []
    assert (out / "all.pdf").stat().st_size > 10_000
    print(out / "all.pdf")
