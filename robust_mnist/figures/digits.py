"""The first training digits with their labels."""

from matplotlib.figure import Figure

from robust_mnist.figures import _images, _style
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Records


_COLUMNS = 10


@_style.styled
def draw(records: Records) -> Figure | None:
    """Draw the first training digits, ten in a row, each under its label."""
    if "digits/images" not in records.panels:
        return None
    images, labels = records.panels["digits/images"], records.panels["digits/labels"]
    rows = -(-len(images) // _COLUMNS)
    height = _style.HEADING + 1.19 * rows
    figure = Figure(figsize=(_style.WIDTH, height))
    panels = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    figure.subplots_adjust(
        left=0.01,
        right=0.99,
        bottom=0.015,
        top=1 - (_style.HEADING + 0.17) / height,
        wspace=0.08,
        hspace=0.26,
    )
    for axes, image, label in zip(panels, images, labels, strict=False):
        _images.show(axes, image)
        axes.set_title(str(label), loc="center", pad=2)
    for axes in panels[len(images) :]:
        axes.remove()
    what = f"the first {len(images)} training images of {_style.dataset(records)}"
    _style.heading(figure, "Training digits and their labels", _style.counted(records, what))
    return figure


CHART = Chart(
    draw=draw,
    title="Training digits",
    reading="The first images of the training file, each under the label that came with it.",
    limits="A label is what the dataset says; a few are disputable. Which of the images a network "
    "learned from depends on the split.",
    needs="A sweep keeps these images, and none was run.",
    command="sweep",
)
