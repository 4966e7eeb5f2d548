"""MNIST, handwritten digits: the dataset that the suite is about, and the one it carries along.

Reference:
    LeCun, Cortes and Burges, "The MNIST database of handwritten digits". CC BY-SA 3.0.
"""

import pathlib

from robust_mnist.data._source import Embedded


MNIST = Embedded(
    "mnist",
    pathlib.Path(__file__).parent / "files",
    about="handwritten digits",
    licence="CC-BY-SA-3.0",
)
