"""`python -m robust_mnist` is `robust-mnist`."""

import sys

from robust_mnist.cli import main


if __name__ == "__main__":
    sys.exit(main())
