"""The report: whole in one file, every cell leads to its runs, and fast on a large ledger."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from results import make_report
from results.report import report

ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """Ids, links and what a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if found.get("href"):
            self.links.append(str(found["href"]))
        self.fetched += [str(value) for name, value in attrs if name in ("src", "srcset", "data")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_link_leads_somewhere_and_nothing_is_fetched(mazes: Any) -> None:
    page = Page(report(mazes.ledger, ["mazes"], None))
    assert not page.open
    assert len(set(page.ids)) == len(page.ids)
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inside) <= set(page.ids)
    assert all(link.startswith("file:///") for link in page.links if not link.startswith("#"))
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.fetched)
    assert len(page.fetched) == 1
    # Every finished run is linked from a cell, every run is listed.
    for run in mazes.ledger.runs():
        assert run.run_id in page.ids
        assert (run.run_id in inside) == (run.status in ("finished", "failed"))


def test_what_it_says(mazes: Any) -> None:
    text = re.sub(r"<[^>]+>", " ", report(mazes.ledger, ["mazes"], "last"))
    for said in (
        "loss not finite at step 400",
        "data missing: collect them first",
        "0000000000000000",
        "rows 3 to 5 were repaired",
        "agent.M=4",
        "mujoco",
    ):
        assert said in text
    assert "60.0 ± 0.0 (3)" in text
    assert "The best evaluation of a run is on average" in text


def test_aggregates_over_common_tasks(maker: Any) -> None:
    for task in ("pointmaze-umaze", "pointmaze-medium"):
        for seed in range(3):
            maker.run(task, "erdp", seed, [80.0 + seed])
            maker.run(task, "bc-diffusion", seed, [40.0 + seed])
    maker.plan()
    text = report(maker.ledger, ["mazes"], None)
    assert "interquartile mean" in text
    section = text.split("<h3>Over all tasks</h3>")[1].split("<h3>")[0]
    [row] = re.findall(r"<tr><td class=word>bc-diffusion</td><td>41.0.*?</tr>", section)
    assert "0.00<br>" in row  # never better than erdp


def test_names_are_escaped(maker: Any) -> None:
    maker.run("pointmaze-umaze", "erdp", 0, [1.0], notes=["<script>alert(1)</script>"])
    maker.plan("a<b")
    text = report(maker.ledger, ["a<b"], None)
    assert "<script>" not in text
    Page(text)


def test_the_command(mazes: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--ledger", str(mazes.ledger.root), "--out", str(tmp_path / "out"))
    assert make_report.main([*out]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "report.html")
    assert make_report.main([*out, "--protocol", "lats"]) == 2
    assert "did you mean 'last'" in capsys.readouterr().err
