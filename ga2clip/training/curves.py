"""`curves.png`: the loss terms, the accuracy and the learning rate of a run over its updates."""

from pathlib import Path
from typing import Any

from ga2clip.files import write_figure
from ga2clip.run import read_metrics
from ga2clip.training.validation import ACCURACY, LOSS

_NO_TERMS = {"step", "epoch", "lr", "loss", "accuracy", "grad_norm", ACCURACY, LOSS}


def draw_curves(folder: Path) -> Path | None:
    """Draw the metrics of the run in `folder`; None when it has none."""
    lines = read_metrics(folder)
    if not lines:
        return None
    # matplotlib's own window back ends are never loaded: the figure is drawn without pyplot.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    terms = [name for name in lines[0] if name not in _NO_TERMS]
    for name in ["loss", *terms] if len(terms) > 1 else ["loss"]:
        _line(left, lines, name)
    left.set_title("loss")
    _line(middle, lines, "accuracy")
    middle.set_title("training accuracy")
    validated = [line for line in lines if ACCURACY in line]
    if validated:
        for axes, name in ((left, LOSS), (middle, ACCURACY)):
            axes.plot(
                [line["step"] for line in validated], [line[name] for line in validated], ".--", label=name
            )
        middle.legend()
        middle.set_title("accuracy")
    middle.set_ylim(0, 1)
    _line(right, lines, "lr")
    right.set_title("learning rate")
    left.legend()
    for axes in (left, middle, right):
        axes.set_xlabel("update")
        axes.grid(alpha=0.3)
    path = folder / "curves.png"
    write_figure(path, figure)
    return path


def _line(axes: Any, lines: list[dict[str, Any]], name: str) -> None:
    """The values, pale, and their mean over a twentieth of the run."""
    steps, values = [line["step"] for line in lines], [line[name] for line in lines]
    window = max(1, len(values) // 20)
    smooth = [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]
    (drawn,) = axes.plot(steps, smooth, label=name)
    if window > 1:
        axes.plot(steps, values, alpha=0.25, color=drawn.get_color(), linewidth=0.8)
