from robust_mnist.attacks import ATTACKS as ATTACKS
from robust_mnist.certify import CERTIFIERS as CERTIFIERS
from robust_mnist.config import TrainSettings as TrainSettings
from robust_mnist.data import load as load, split as split
from robust_mnist.errors import InputError as InputError
from robust_mnist.figures import LiveCurves as LiveCurves, plot as plot
from robust_mnist.models import MLP as MLP
from robust_mnist.records import Radii as Radii, RunFolder as RunFolder
from robust_mnist.sweep import radii as radii
from robust_mnist.training import train as train

__version__: str
