"""How often the trust checks accuse a sound network, and how often they notice a fake.

What a check's limits are worth shows on networks and fakes that they were not chosen on: the seed
gives both, so another seed is another measurement.
"""

from typing import NamedTuple

from robust_mnist.attacks import ATTACKS
from robust_mnist.audit import CHECKS
from robust_mnist.config import METHODS, SweepSettings


NAME = "audit-rates"
IMAGES = 200  # for each network its own
# The self-test's, in both norms of a report, and in each an attack for the closest wrong image,
# without which G22 has no two.
SWEEP = SweepSettings(
    norm=("linf", "l2"),
    methods=("fgsm-linf", "pgd40-linf", "fmn100-linf", "fgm-l2", "pgd40-l2", "fmn100-l2"),
)
# For G22 on sound networks, as the attacks that run by default in these norms are less alike.
OTHERS = SweepSettings(
    norm=("l1", "l0"),
    methods=tuple(name for norm in ("l1", "l0") for name in METHODS[norm] if name in ATTACKS),
)
# By so much of the images some curve has to rise above the sound one, before a fake is one.
RISE = 0.05


class Usual(NamedTuple):
    """The limit that others use, applied to the number that our check gives.

    Attributes:
        words: The rule.
        source: Whose; `after` whom, where they name what to check and no number.
        look: Flagged above it; None where nobody has named a limit.
        fail: Not to be trusted above it; None where the source has one limit alone.
    """

    words: str
    source: str
    look: float | None
    fail: float | None = None

    def said(self, number: float) -> str:
        """The verdict; NaN is none to be trusted, as in the checks."""
        if self.fail is not None and not number <= self.fail:
            return "fail"
        return "look" if self.look is not None and not number <= self.look else "ok"


CARLINI, AUTOATTACK = "after Carlini et al. 2019", "AutoAttack's flags"
INDICATORS = "Pintor et al. 2022"
# Where ours differ, at one of the two levels at least; elsewhere they are the same.
USUAL: dict[str, Usual] = {
    "G2-logit-scale": Usual("within 0.5 points", "after Carlini and Wagner 2017", 0.005),
    "G3-iterative-beats-single": Usual("no image", CARLINI, 0.0),
    "G4-raw-monotone": Usual("no image, fail above 0.5 %", CARLINI, 0.0, 0.005),
    "G7-black-box": Usual("0.2 %", AUTOATTACK, 0.002),
    "G8-noise": Usual("no image of 10,000 draws each", CARLINI, 0.0),
    "G9-doubled-steps": Usual("0.2 %", CARLINI, 0.002),
    "G10-restarts": Usual("0.1 % by the last start", "after Madry et al. 2018", 0.001),
    "G11-unfinished": Usual("0.05 of the way, any image", INDICATORS, 0.0),
    "G12-silent-success": Usual("no image", INDICATORS, 0.0, 0.0),
    "G13-unstable": Usual("0.1 of the loss, noise of 8/255, 100 draws", INDICATORS, 0.1),
    "G14-transfer": Usual("0.2 %", CARLINI, 0.002),
    "G15-targeted": Usual("0.5 %", "after Gowal et al. 2019", 0.005),
    "G17-precision": Usual("no image", "nobody's, the obvious one", 0.0),
    "G18-batch-split": Usual("no image", "after AutoAttack and Foolbox", 0.0),
    "G20-planted": Usual("5 % missed", "Zimmermann et al. 2022", 0.05),
    "G22-optimality": Usual("every attack at 0.9 or more", "Cinà et al. 2024", -0.9),
    "G24-seeds": Usual("shown, without a limit", "nobody's", None),
    "G26-reaches-zero": Usual("nothing stands at the end", CARLINI, 0.0),
}  # fmt: skip
# This check compares the tables of a run with its counts. It does not depend on the network, and
# has no rate to measure.
BOOKS = {"G27-run-counts"}
MEASURED = [check for check in CHECKS if check not in BOOKS]
assert {*USUAL} <= {*MEASURED}
