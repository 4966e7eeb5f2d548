"""Drivers: attacks and certifiers over images, radii and seeds."""

from robust_mnist.records import Contradiction as Contradiction, Radii as Radii
from robust_mnist.sweep._aim import Aim as Aim
from robust_mnist.sweep._bounds import Bounds as Bounds, runs_once as runs_once
from robust_mnist.sweep._branch import (
    BranchAndBound as BranchAndBound,
    Budget as Budget,
    Progress as Progress,
)
from robust_mnist.sweep._certify import (
    Running as Running,
    Spent as Spent,
    Tried as Tried,
    open_at as open_at,
    settle_at as settle_at,
    settle_run as settle_run,
)
from robust_mnist.sweep._cost import Passes as Passes, cost as cost, driver_cost as driver_cost
from robust_mnist.sweep._driver import (
    CLOSE as CLOSE,
    Found as Found,
    attack_batch as attack_batch,
    break_batch as break_batch,
    decide_images as decide_images,
    image_keys as image_keys,
    in_chunks as in_chunks,
    judge_batch as judge_batch,
    method_key as method_key,
    step_batch as step_batch,
)
from robust_mnist.sweep._feasible import pull as pull, puller as puller, sizes as sizes
from robust_mnist.sweep._methods import (
    Plan as Plan,
    applies as applies,
    check_method as check_method,
    norm_of as norm_of,
    plan as plan,
)
from robust_mnist.sweep._model import check_model as check_model
from robust_mnist.sweep._panels import (
    gallery_panel as gallery_panel,
    lab_panel as lab_panel,
    sample_panels as sample_panels,
)
from robust_mnist.sweep._probes import probe_panels as probe_panels
from robust_mnist.sweep._proofs import (
    certified_radii as certified_radii,
    certify_batch as certify_batch,
    largest_certified as largest_certified,
)
from robust_mnist.sweep._radii import radii as radii
from robust_mnist.sweep._resume import about as about
from robust_mnist.sweep._saving import Saving as Saving
from robust_mnist.sweep._schedule import (
    Stage as Stage,
    control_sample as control_sample,
    run_stage as run_stage,
)
from robust_mnist.sweep._smooth import smooth as smooth
from robust_mnist.sweep._steps import smallest_step as smallest_step, step_sweep as step_sweep
from robust_mnist.sweep._sweep import Task as Task, sweep_run as sweep_run
from robust_mnist.sweep._universal import (
    universal_eps as universal_eps,
    universal_panel as universal_panel,
)
