"""The program: `robust-mnist`, or `python -m robust_mnist`."""

import sys

from robust_mnist import interrupts


def main() -> int:
    """Run the command that the process was started with.

    Signals are seen to before anything is imported that takes time.
    """
    interrupts.install()
    code = interrupts.EXIT_CODE
    try:
        from robust_mnist import cli  # noqa: PLC0415 see above

        code = cli.main()
    except BaseException:
        # An import that is cut short may raise anything.
        if not interrupts.asked():
            raise
        interrupts.settle()
        sys.stderr.write("robust-mnist: interrupted; the same command continues\n")
    if code == interrupts.EXIT_CODE:
        interrupts.leave()
    return code


if __name__ == "__main__":
    sys.exit(main())
