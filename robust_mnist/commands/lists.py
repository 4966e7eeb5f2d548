"""Commands that only tell what there is."""

from robust_mnist import config
from robust_mnist.commands._result import Result, columns


def data(command: config.Data) -> Result:
    """The named data sets."""
    del command
    from robust_mnist.data import DATASETS

    listed = [
        {
            "name": name,
            "about": source.about,
            "licence": source.licence,
            "origin": source.origin,
        }
        for name, source in DATASETS.items()
    ]
    heading = ("name", "about", "licence", "origin")
    text = columns([heading, *(tuple(str(row[key]) for key in heading) for row in listed)])
    return Result(
        f"{text}\n\n--data also takes a folder of IDX or CSV files, two CSV files, or an NPZ.",
        listed,
    )


def methods(command: config.Methods) -> Result:
    """The attacks and certifiers, with a line on each."""
    del command
    from robust_mnist.attacks import ATTACKS, AbstractAttack
    from robust_mnist.certify import CERTIFIERS, AbstractCertifier
    from robust_mnist.sweep import norm_of, plan

    default = plan(config.SweepSettings(), config.TrainSettings().activation)
    parts = [default.steps, *default.methods.values(), *default.stages.values()]
    run = {name for part in parts for name in part}
    registered: dict[str, AbstractAttack | AbstractCertifier] = {**ATTACKS, **CERTIFIERS}
    listed = [
        {
            "name": name,
            "norm": norm_of(name) or "",
            "kind": "certifier" if name in CERTIFIERS else "attack",
            "default": name in run,
            "about": method.about,
        }
        for name, method in registered.items()
    ]
    heading = ("name", "norm", "kind", "default", "about")
    word = lambda value: ("yes" if value else "") if isinstance(value, bool) else str(value)
    return Result(
        columns([heading, *(tuple(word(row[key]) for key in heading) for row in listed)]), listed
    )


def devices(command: config.Devices) -> Result:
    """The devices JAX can use."""
    del command
    from robust_mnist import bench

    bench.check_device()
    found = bench.devices()
    gib = lambda size: "" if size is None else f"{size / 2**30:.1f} GiB"
    rows = [(str(d["id"]), d["platform"], d["kind"], gib(d["memory"])) for d in found]
    return Result(columns([("id", "platform", "kind", "memory"), *rows]), found)
