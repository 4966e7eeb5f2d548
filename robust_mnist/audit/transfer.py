"""G14: another network's adversarial images break nothing new."""

from robust_mnist.attacks import Transfer
from robust_mnist.audit._evidence import Evidence, Finding, counted


def transfer(evidence: Evidence) -> Finding | None:
    """Images that PGD on another seed's network breaks here and the run has not broken.

    An attack on the network itself knows more than one on its sibling. Where the sibling's images
    do better, the network's own gradient is masked. Needs a run with several seeds.

    The usual limit: 0.2 % (after Carlini et al. 2019). Measured: false alarms on 0 of 8 sound
    networks, 0 of 58 variants of fakes noticed, by the usual limit 1 and 2;
    reports/data/audit-rates.md.

    Reference:
        Carlini et al., "On evaluating adversarial robustness", 2019.
    """
    probe = evidence.probe
    if probe is None or not evidence.siblings:
        return None
    borrowed = probe.attack(Transfer(probe.ascent, evidence.siblings[:1]))
    new = borrowed.broken & ~probe.pgd().broken & ~probe.known
    return counted(
        "a sibling's adversarial images break nothing new",
        int(new.sum()), probe.count, look=0.002, fail=0.02,
        meaning=f"Attacks on another seed's network broke {new.sum()} more of {probe.where}.",
    )  # fmt: skip
