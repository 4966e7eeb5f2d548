"""What is said while a network trains, and when a command is done."""

import shlex
import time
from collections.abc import Callable, Sequence

import numpy as np

from robust_mnist.commands._result import Result
from robust_mnist.records import RunFolder
from robust_mnist.training import Record


class Watch:
    """Progress of a training: rate and the latest of the four metrics.

    Args:
        networks: How many train at once.
        images_per_epoch: Training images per epoch, over all networks.
        update: Takes the number of epochs done and a text.
    """

    def __init__(
        self, networks: int, images_per_epoch: int, update: Callable[[int, str], None]
    ) -> None:
        self.networks = networks
        self.images_per_epoch = images_per_epoch
        self.update = update
        self.first: tuple[float, float] | None = None

    def __call__(self, history: list[Record]) -> None:
        now, epoch = time.perf_counter(), history[-1]["epoch"]
        rate = ""
        if self.first is None:
            self.first = now, epoch  # compilation ended just before the first record
        elif now > self.first[0]:
            images = (epoch - self.first[1]) * self.images_per_epoch
            # The summary's own rate leaves records and files out.
            rate = f"{images / (now - self.first[0]):,.0f} images/s  "
        latest = history[-self.networks :]
        mean = lambda name: sum(record[name] for record in latest) / self.networks
        self.update(
            int(epoch),
            # Short enough for a terminal of 80 columns, at ten million images a second as well.
            f"{rate}train CE {mean('train_cross_entropy'):.1e}"
            f"  valid CE {mean('valid_cross_entropy'):.3f}, MSE {mean('valid_mse'):.4f}"
            f", acc {mean('valid_accuracy'):.1%}",
        )


def outcome(
    folder: RunFolder,
    report: Result | None = None,
    *,
    following: str | None = None,
    eps: Sequence[float] = (),
) -> Result:
    """What a command says of a run at its end: accuracy, throughput, a table, trust, the page.

    Args:
        folder: The run.
        report: What was said of the page, if there is one.
        following: The command that usually comes next, up to the folder.
        eps: Radii that were asked for, to be in the table; some of each norm by default.
    """
    records = folder.load()
    rows, info = records.rows, records.info
    test = rows[(rows.kind == "training") & (rows.split == "test")].sort_values("seed")
    device, training = info["environment"].get("device_kind", "an unknown device"), info["training"]
    lines = [
        f"test accuracy: {_spread(test.accuracy.to_numpy())} on {test.images.iloc[0]} images",
        (
            f"training: {training['images_per_second']:,.0f} images/s on {device} "
            f"({training['seconds']:.1f} s, and {training['compile_seconds']:.1f} s of compilation)"
        ),
    ]
    if records.radii:
        from robust_mnist import report as reports

        lines += ["", reports.text_table(records, eps)]
        if "audit" in info:
            lines += ["", reports.trust_line(info["audit"], info.get("unchecked", []))]
    bounds = rows[rows.kind.isin(["worst", "certified"])]
    columns = ["seed", "norm", "eps", "kind", "method", "images", "accuracy", "low", "high"]
    facts = {
        "run": str(folder.path),
        "device": device,
        "test_accuracy": test.accuracy.tolist(),
        "training": training,
        "robust_accuracy": bounds[columns].to_dict("records") if len(bounds) else [],
        "audit": info.get("audit", []),
        "unchecked": info.get("unchecked", []),
    }
    if report is not None:
        lines += ["", report.text]
        facts |= report.data
    if following is not None:
        following = f"{shlex.join(['robust-mnist', *following.split(), str(folder.path)])}"
        lines += ["", f"run: {folder.path}", f"next: {following}"]
    return Result("\n".join(lines), facts)


def _spread(values: np.ndarray) -> str:
    if values.size == 1:
        return f"{values[0]:.2%}"
    low, high = values.min(), values.max()
    return f"{values.mean():.2%} (mean of {values.size} seeds, {low:.2%} to {high:.2%})"
