"""Is B slower than A? Launches in fresh processes, exact counts, and verdicts that know the noise.

Nothing here imports JAX: the code that is measured runs in processes of its own.
"""

from robust_mnist.gate._calibration import (
    REMARK as REMARK,
    calibrate as calibrate,
    false_alarms as false_alarms,
    floors_of as floors_of,
    read_calibration as read_calibration,
    save_calibration as save_calibration,
)
from robust_mnist.gate._compare import (
    OVERALL as OVERALL,
    Comparison as Comparison,
    Pair as Pair,
    Row as Row,
    compare as compare,
    pair_up as pair_up,
    same_environment as same_environment,
)
from robust_mnist.gate._exact import Change as Change, exact_changes as exact_changes
from robust_mnist.gate._launch import (
    Launch as Launch,
    LaunchFailed as LaunchFailed,
    environment_key as environment_key,
    measure as measure,
)
from robust_mnist.gate._sides import (
    Code as Code,
    Results as Results,
    checked_out as checked_out,
    content_hash as content_hash,
    is_code as is_code,
    resolve as resolve,
    retired as retired,
)
from robust_mnist.gate._tables import (
    add_to_summary as add_to_summary,
    calibration_table as calibration_table,
    conclusion as conclusion,
    markdown as markdown,
    table as table,
)
from robust_mnist.gate._verdicts import (
    USUAL_PAIRS as USUAL_PAIRS,
    Verdict as Verdict,
    decide as decide,
    detection_power as detection_power,
    equivalence_power as equivalence_power,
    interval as interval,
    judge as judge,
    noise_floor as noise_floor,
)
