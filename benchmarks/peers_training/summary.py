"""One row a peer, from the facts of its processes; and the table that people read."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.peers_training import BATCH, DECAY, DELTA, OURS, PEERS, RATE, SIZES


HEAD = ("library", "fit (s)", "compile (s)", "process (s)", "test accuracy", "ratio", "runs")
WORK = (
    f"tanh, softmax cross-entropy, batches of {BATCH} from a fresh permutation each epoch, "
    f"RMSProp {RATE:g}, {DECAY:g}, delta {DELTA:g}, Glorot normal weights, float32."
)
READING = (
    "Medians over processes, lowest to highest in brackets. `fit` is the training alone; `compile` "
    "is what comes before it, once the images are in memory: building the network, and compiling "
    "it or training it for one epoch that is then taken back. `process` is everything from the "
    f"start of Python to its end. `ratio` is `fit` over that of {OURS} in the same repetition. "
    "Compiled programs are never read from a cache."
)
COLUMNS = ("fit_s", "compile_s", "process_s", "accuracy")


def summarise(
    runs: Sequence[Mapping[str, Any]], failures: Mapping[str, str], peers: Sequence[str]
) -> pd.DataFrame:
    """Medians of each peer with lowest and highest, in the order of `peers`.

    `ratio` is a peer's fit over that of robust_mnist in the same repetition, then the median; a
    peer without a result has NaN and its `failure`.
    """
    each = pd.DataFrame(runs, columns=["peer", "repetition", *COLUMNS])
    ours = each[each["peer"] == OURS].set_index("repetition")["fit_s"]
    each["ratio"] = each["fit_s"] / each["repetition"].map(ours)
    groups = each.groupby("peer")
    frame = pd.DataFrame({"label": {name: PEERS[name].label for name in peers}})
    frame["runs"] = groups.size().reindex(frame.index, fill_value=0)
    for column in (*COLUMNS, "ratio"):
        frame[column] = groups[column].median()
        frame[f"{column}_low"], frame[f"{column}_high"] = groups[column].min(), groups[column].max()
    frame["failure"] = pd.Series(failures, dtype=str).reindex(frame.index, fill_value="")
    return frame.rename_axis("peer")


def conditions(about: Mapping[str, Any]) -> str:
    """What was trained, and where: the line under a heading."""
    where = about["environment"] or {"device_kind": "unknown device", "threads": "unknown"}
    return (
        f"MLP {'-'.join(map(str, SIZES))}, 10,000 MNIST images, {about['epochs']} epochs · "
        f"{where['device_kind']}, {where['threads']} threads"
    )


def loads(about: Mapping[str, Any]) -> str:
    """How busy the machine was: far above the threads of a peer, the times are not to be used."""
    if about["load_highest"] is None:
        return "load unknown"
    return (
        f"load average {about['load_before']:.2f} before the first process and up to "
        f"{about['load_highest']:.2f} after one, its own threads among it"
    )


def table(frame: pd.DataFrame, about: Mapping[str, Any]) -> str:
    rows = [HEAD, ("---",) * len(HEAD)]
    rows += [row(str(name), values) for name, values in frame.iterrows()]
    versions = {run["peer"]: run["versions"] for run in about["runs"]}
    threads = {run["peer"]: run["threads"] for run in about["runs"]}
    lines = [
        "# The same training in several libraries",
        "",
        f"{conditions(about)}; {loads(about)}.",
        WORK,
        "",
        *("| " + " | ".join(cells) + " |" for cells in rows),
        "",
        READING,
        "",
    ]
    for name, values in frame.iterrows():
        peer = PEERS[str(name)]
        facts = [peer.remark]
        if name in versions:
            facts.append(", ".join(f"{key} {value}" for key, value in versions[name].items()))
            facts.append(f"{threads[name]} threads")
        if values["runs"] == 1 and frame["runs"].max() > 1:
            facts.append("run once because it is slow" if peer.slow else "run once")
        if values["failure"]:
            facts.append(f"failed: {values['failure']}")
        lines.append(f"- **{name}**: {'; '.join(facts)}.")
    return "\n".join([*lines, "", f"Again: `{about['command']}`", ""])


def row(name: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    if not values["runs"]:
        return (name, f"failed: {values['failure']}", *[""] * (len(HEAD) - 3), "0")
    return (
        name,
        spread(values, "fit_s", "{:.2f}"),
        spread(values, "compile_s", "{:.2f}"),
        spread(values, "process_s", "{:.2f}"),
        spread(values, "accuracy", "{:.2%}"),
        spread(values, "ratio", "{:.2f}") if pd.notna(values["ratio"]) else "",
        str(values["runs"]),
    )


def spread(values: Mapping[str, Any], column: str, form: str) -> str:
    middle = form.format(values[column])
    low, high = form.format(values[f"{column}_low"]), form.format(values[f"{column}_high"])
    return middle if low == high else f"{middle} ({low} - {high})"
