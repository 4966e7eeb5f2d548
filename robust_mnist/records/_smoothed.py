"""What is known of a smoothed classifier, image by image."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Integer

from robust_mnist import statistics


@dataclasses.dataclass(frozen=True)
class Smoothed:
    """Votes under Gaussian noise, and what they prove of the majority's answer in L2.

    It speaks of the smoothed classifier and is no `Radii` of the network behind it: the two are
    never merged. Each radius is wrong with probability `alpha` at most.

    Attributes:
        sigma: Standard deviation of the noise in each pixel.
        alpha: Probability that an image's certificate, or prediction, is wrong.
        labels: True classes.
        first: Votes of a few draws, which choose the class that is asked about.
        votes: Votes of many other draws.
        samples: Number of those draws for each image.
    """

    sigma: float
    alpha: float
    labels: Integer[np.ndarray, " images"]
    first: Int[np.ndarray, "images classes"]
    votes: Int[np.ndarray, "images classes"]
    samples: int

    @property
    def predicted(self) -> Int[np.ndarray, " images"]:
        """Classes that radii are about; -1 where the certificate abstains."""
        return np.where(self.radii > 0, self.first.argmax(axis=1), -1)

    @property
    def radii(self) -> Float[np.ndarray, " images"]:
        """Radii within which the smoothed classifier answers as on the clean image, right or wrong.

        `sigma` times the normal quantile of the lower end of the class's probability; 0 where that
        is not above a half, which is an abstention.
        """
        from scipy import stats  # a second that a page should not wait for

        chosen = self.first.argmax(axis=1)
        won = np.take_along_axis(self.votes, chosen[:, None], axis=1)[:, 0]
        low = statistics.clopper_pearson(won, self.samples, alpha=self.alpha)
        return np.where(low > 0.5, self.sigma * stats.norm.ppf(np.maximum(low, 0.5)), 0.0)

    @property
    def largest(self) -> float:
        """The radius of an image on which all draws agree: no other can be larger."""
        from scipy import stats

        low = statistics.clopper_pearson(self.samples, self.samples, alpha=self.alpha)
        return float(self.sigma * max(0.0, stats.norm.ppf(low)))

    @property
    def abstained(self) -> int:
        """Images without a certificate of any radius."""
        return int(np.sum(self.radii == 0))

    @property
    def correct(self) -> Float[np.ndarray, " images"]:
        """Radii of right answers; -inf where the answer is wrong or there is none."""
        return np.where(self.predicted == self.labels, self.radii, -np.inf)

    @property
    def average_radius(self) -> float:
        """The average certified radius (ACR): of all images, 0 where the answer is not right."""
        return float(np.maximum(self.correct, 0.0).mean())

    def certified_accuracy(
        self, eps: Sequence[float] | Float[np.ndarray, " eps"]
    ) -> Float[np.ndarray, " eps"]:
        """Share of images answered rightly everywhere within each radius."""
        at = np.asarray(eps, np.float64)
        return statistics.survival(self.correct, at, inclusive=True)

    def answers(self) -> Int[np.ndarray, " images"]:
        """What the smoothed classifier answers on the clean image; -1 where it abstains.

        It answers the class with most votes if a two-sided test at `alpha` tells it from the class
        with the second most.
        """
        from scipy import stats

        best, second = np.sort(self.votes, axis=1)[:, :-3:-1].T
        # Twice a tail of the binomial of one half is the two-sided test.
        chance = np.minimum(2 * stats.binom.sf(best - 1, best + second, 0.5), 1.0)
        clear = (chance <= self.alpha) & (best > 0)
        return np.where(clear, self.votes.argmax(axis=1), -1)
