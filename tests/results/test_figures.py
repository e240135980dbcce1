"""Learning curves: what is drawn, and files that other programs can open."""

import itertools
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

from erdp_core.agent_configs import METHODS
from erdp_core.errors import UserError
from results.figure_style import PALETTE, Ruler, method_styles, style
from results.figures import draw_curves, mean_curve, step_label, write_curves
from results.frames import PlanFrames, read_plan


def frames_of(maker: Any) -> PlanFrames:
    return read_plan(maker.ledger, "mazes", maker.ledger.plans()["mazes"])


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def test_lines_are_means_over_finished_seeds(mazes: Any) -> None:
    figure = draw_curves(frames_of(mazes))
    umaze, medium, large = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["pointmaze-umaze", "pointmaze-medium", "pointmaze-large"]
    thick = [line for line in umaze.lines if line.get_linewidth() > 1]
    assert [list(line.get_ydata()) for line in thick] == [[10.0, 80.0, 60.0], [5.0, 40.0, 50.0], [20.0, 31.0]]
    assert list(thick[0].get_xdata()) == [1500, 3000, 4500]
    assert [line.get_linestyle() for line in thick] == ["-", "--", "-"]
    assert thick[0].get_color() == thick[1].get_color() != thick[2].get_color()
    assert len(umaze.lines) == 3 + 9  # each of three seeds is a thin line
    assert len(umaze.collections) == 3
    # One seed has no band and no thin line; the unfinished run's 98 and the failed run's 99 are not drawn.
    assert max(max(line.get_ydata()) for line in medium.lines) == 60.0
    assert [len(line.get_ydata()) for line in large.lines if line.get_linewidth() > 1] == [1]
    for axes in figure.axes:
        assert axes.get_ylim() == (-3.0, 103.0)


def test_the_band_is_the_range_of_the_seeds(mazes: Any) -> None:
    band = draw_curves(frames_of(mazes)).axes[0].collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (10.0, 90.0)


def test_many_seeds_have_no_thin_lines(maker: Any) -> None:
    for seed in range(6):
        maker.run("pointmaze-umaze", "erdp", seed, [10.0, 112.0 + seed])
    maker.plan()
    (axes,) = draw_curves(frames_of(maker)).axes
    assert len(axes.lines) == 1
    assert axes.get_ylim() == (-3.0, 120.0)


@pytest.mark.parametrize("best", [80.0, 150.0, 1554.0, 2e6])
def test_scores_of_any_size_have_few_ticks(maker: Any, best: float) -> None:
    maker.run("pointmaze-umaze", "erdp", 0, [10.0, best])
    maker.plan()
    (axes,) = draw_curves(frames_of(maker)).axes
    assert 4 <= len(axes.get_yticks()) <= 11


def test_a_step_that_a_seed_lacks_is_left_out_of_the_mean() -> None:
    rows = [(0, 100, 1.0), (0, 200, 2.0), (0, 300, 3.0), (1, 100, 3.0), (1, 300, 5.0)]
    curve = mean_curve(pd.DataFrame(rows, columns=["seed", "step", "score"]))
    assert curve["mean"].to_dict() == {100: 2.0, 300: 4.0}
    assert curve["min"].to_dict() == {100: 1.0, 300: 3.0}


def test_caption_and_legend(mazes: Any) -> None:
    figure = draw_curves(frames_of(mazes), "last-k")
    caption = words(figure)
    assert "protocol last-k: the table's scores are the mean of each run's last 5 evaluations" in caption
    assert "Profile quick, source local" in caption
    assert "bands: lowest to highest seed" in caption
    assert "6 of 18 runs asked for do not count and are not drawn" in caption
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["erdp", "erdp, 1 candidate", "bc-diffusion"]
    with pytest.raises(UserError, match="did you mean 'last-k'"):
        draw_curves(frames_of(mazes), "lastk")


def test_a_task_without_runs_says_so(maker: Any) -> None:
    maker.run("pointmaze-umaze", "erdp", 0, status="planned")
    maker.plan()
    (axes,) = draw_curves(frames_of(maker)).axes
    assert [text.get_text() for text in axes.texts] == ["no finished run"]


def test_files(mazes: Any, tmp_path: Path) -> None:
    png, svg = write_curves(frames_of(mazes), tmp_path / "out")
    assert (png.name, svg.name) == ("mazes-curves.png", "mazes-curves.svg")
    pixels = imread(png)
    assert pixels.shape[1] > 1500
    assert 0.005 < (pixels[:, :, :3].min(axis=2) < 0.5).mean() < 0.3
    root = ElementTree.parse(svg).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 50
    again = write_curves(frames_of(mazes), tmp_path / "again")
    assert [path.read_bytes() for path in again] == [png.read_bytes(), svg.read_bytes()]


def test_a_file_that_cannot_be_written_is_one_line(mazes: Any, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file, not a folder")
    with pytest.raises(UserError, match=r"cannot be written .*choose another folder"):
        write_curves(frames_of(mazes), tmp_path / "out")


def test_methods_keep_their_looks() -> None:
    names = list(METHODS)
    looks = method_styles([*names, "older"])
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == len(names) + 1
    assert method_styles(names[1:])[names[1]] == looks[names[1]]
    assert [to_hex(color).upper() for color in PALETTE] == list(PALETTE)


def test_wrapping_keeps_every_word_within_the_width() -> None:
    text = "the quick brown fox jumps over the lazy dog " * 5
    with style():
        ruler = Ruler()
        lines = ruler.wrap(text, 2.0, 9.0)
        assert all(ruler.width(line, 9.0) <= 2.0 for line in lines)
    assert " ".join(lines) == text.strip()
    assert len(lines) > 3


@pytest.mark.parametrize(
    ("step", "label"), [(0, "0"), (500, "500"), (7_500, "7.5k"), (20_000, "20k"), (1_250_000, "1.25M")]
)
def test_step_labels(step: int, label: str) -> None:
    assert step_label(step) == label


def test_many_lines_are_drawn_without_their_seeds(maker: Any) -> None:
    methods = list(METHODS)[:7]
    for method, seed in itertools.product(methods, range(2)):
        maker.run("pointmaze-umaze", method, seed, [10.0, 20.0 + seed])
    maker.plan()
    figure = draw_curves(frames_of(maker))
    (axes,) = figure.axes
    assert len(axes.lines) == 7
    assert not axes.collections
    assert "single seeds are not drawn where there are more than 6 lines" in words(figure)
