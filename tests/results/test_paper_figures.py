"""The paper's figures from a ledger: drawn where there is something to draw, else told how to get it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.patches import Rectangle

from erdp_core.errors import UserError
from results import make_figures
from results.command_line import Request
from results.matching import RunsByConfig
from results.paper_blocks import measured_parts
from results.paper_figures import FIGURES, NUMBERS, OfRuns, OfToy, draw_part, write_paper_figure
from results.paper_tables import PAPER_TABLES

PLAY, DIVERSE = "antmaze-medium-play-v0", "antmaze-medium-diverse-v0"


@pytest.fixture
def ask(maker: Any, tmp_path: Path) -> Callable[..., list[Path]]:
    """Draws a figure of the ledger."""

    def draw(number: int, profile: str | None = None) -> list[Path]:
        return write_paper_figure(number, Request(str(maker.ledger.root), profile, None, tmp_path / "out"))

    return draw


def assert_drawn(paths: list[Path], *names: str) -> None:
    assert [path.name for path in paths] == list(names)
    for path in paths:
        if path.suffix == ".png":
            picture = imread(path)
            assert picture[..., :3].std() > 0.02
            assert min(picture.shape[:2]) > 300


def test_every_figure_of_the_paper_is_there() -> None:
    assert tuple(range(1, 9)) == NUMBERS


def test_bars_of_beta(maker: Any, ask: Callable[..., list[Path]]) -> None:
    for beta in (1, 2, 4):
        for seed in range(3):
            maker.run(PLAY, "erdp", seed, [50.0 + 10 * beta + seed], settings=[f"agent.beta={beta}"])
    assert_drawn(ask(3), "figure-3-quick.png", "figure-3-quick.svg")
    [part] = measured_parts(PAPER_TABLES[8], RunsByConfig.of(maker.ledger), "quick", "paper")
    figure = FIGURES[3]
    assert isinstance(figure, OfRuns)
    drawn = draw_part(3, figure, part)
    text = " ".join(line.get_text() for line in drawn.texts)
    for said in (f"No run: {DIVERSE}", "95% interval", "Profile quick", "local, d4rl-antmaze-medium", "seeds 0, 1, 2"):
        assert said in text
    [panel, *_] = drawn.axes
    assert panel.get_title() == PLAY
    heights = [bar.get_height() for bar in panel.patches if isinstance(bar, Rectangle)]
    assert heights == [61.0, 71.0, 91.0]


def test_curves_by_critics_and_against_diffusion_ql(maker: Any, ask: Callable[..., list[Path]]) -> None:
    for seed in range(2):
        for M in (1, 64):
            maker.run(PLAY, "erdp", seed, [10.0, 50.0 + M], profile="paper", settings=[f"agent.M={M}"])
        maker.run(PLAY, "diffusion-ql", seed, [20.0, 40.0], profile="paper")
    assert_drawn(ask(8), "figure-8-paper.png", "figure-8-paper.svg")
    assert_drawn(ask(4, "paper"), "figure-4-paper.png", "figure-4-paper.svg")
    with pytest.raises(UserError, match=r"has no run of Figure 8: python sweeps/run_ablation"):
        ask(8, "smoke")


@pytest.mark.parametrize("number", [number for number, figure in FIGURES.items() if isinstance(figure, OfToy)])
def test_a_figure_that_was_not_computed_says_how(number: int, ask: Callable[..., list[Path]]) -> None:
    with pytest.raises(UserError, match=f"nothing to draw Figure {number} from: python sweeps/"):
        ask(number)


def test_states_in_the_plane(maker: Any, ask: Callable[..., list[Path]]) -> None:
    random = np.random.default_rng(0)
    arrays = {f"{task}/{name}": random.normal(size=size)
              for task in (PLAY, DIVERSE) for name, size in (("places", (50, 2)), ("returns", 50))}  # fmt: skip
    record = {"toy": "states", "tasks": [PLAY, DIVERSE], "variants": [], "caption": ["States by t-SNE."]}
    maker.ledger.write_toy("states-abc123", record, arrays)
    assert_drawn(ask(7), "figure-7.png", "figure-7.svg")


def test_the_command(maker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = ("--ledger", str(maker.ledger.root), "--out", str(tmp_path / "out"))
    assert make_figures.main(["--figure", "9", *ledger]) == 2
    assert "--figure 9: the numbers are 1, 2, 3, 4, 5, 6, 7, 8" in capsys.readouterr().err
    assert make_figures.main(["--figure", "three", *ledger]) == 2
    assert make_figures.main(["--figure", "3", "--table", "antmaze", *ledger]) == 2
    assert "name different things" in capsys.readouterr().err
    maker.run(PLAY, "erdp", 0, [50.0], settings=["agent.beta=2"])
    assert make_figures.main(["--figure", "3", *ledger]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(tmp_path / "out" / "figure-3-quick.png")
