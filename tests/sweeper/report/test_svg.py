"""Drawings as SVG: words of any script."""

from sweeper.report.svg import style, svg


def test_names_that_matplotlibs_font_lacks_are_drawn_without_a_warning() -> None:
    """Text stays text, so that the page's fonts write it; warnings are errors here."""
    with style():
        from matplotlib.figure import Figure

        drawing = Figure()
        drawing.text(0.5, 0.5, "知识")
        assert "知识" in svg(drawing, "name", "label", {})
