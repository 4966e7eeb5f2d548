"""Bugs that libraries of attacks have had in silence, and the tests that hold ours free of them.

None of them stops a program: each only makes a network look more robust, or an attack stronger,
than it is. Tests of no older place stand in the two files beside this one: `_in_attacks`, and
`_in_sweeps` for what runs, judges and counts attacks. In them # is an issue of the library named.
"""

import ast
from pathlib import Path


# What went wrong elsewhere, and the tests that fail where it does here.
BUGS = {
    "1 cross-entropy underflows, or logits are far from 0, and nothing moves": (
        "test_the_scale_and_shift_of_logits_do_not_matter",
        "test_neither_scale_nor_shift_of_logits_turns_a_loss",
    ),
    "2 eps is ignored": (
        "test_a_ball_is_filled_and_not_left",
        "test_projection_is_inside_and_no_other_point_is_closer",
        "test_ball_attacks_break_from_the_exact_radius_on",
        "test_fmn_stays_in_the_ball_that_it_projects_on",
    ),
    "3 the last image is reported, not the best": (
        "test_a_wrong_image_that_was_seen_is_not_forgotten",
        "test_a_wrong_image_counts_more_than_a_right_one_of_higher_loss",
        "test_apgd_does_not_forget_that_its_start_was_wrong",
        "test_more_steps_never_hurt",
    ),
    "4 the last update is never evaluated": (
        "test_one_step_is_judged_after_it_was_taken",
        "test_passes_are_counted",
    ),
    "5 a mistake becomes right again": ("test_an_attack_never_makes_a_mistake_right",),
    "6 shares are of other numbers of images": ("test_every_share_is_of_all_images",),
    "7 the smallest mean stands for the mean of the worst": (
        "test_the_worst_case_is_taken_image_by_image",
        "test_the_worst_of_several_breaks_what_any_of_them_breaks",
    ),
    "8 a curve rises": (
        "test_a_break_settles_every_larger_radius",
        "test_curves_are_survival_functions_that_never_rise",
    ),
    "9 clipping to the box wastes the step": (
        "test_ascend_is_the_best_change_that_ball_and_box_allow",
        "test_pgd_takes_up_what_the_box_leaves_of_a_step",
    ),
    "10 pixels at 0 and 1 are frozen": (
        "test_what_a_minimal_attack_answers_itself_is_wrong_and_near",
    ),
    "11 float32 decides what is inside": (
        "test_pulled_images_are_exactly_feasible",
        "test_little_is_lost_by_pulling",
        "test_what_counts_is_exactly_in_ball_and_box_and_wrong",
    ),
    "12 an attack succeeds in reduced precision only": (
        "test_what_is_wrong_in_reduced_precision_alone_does_not_count",
    ),
    "13 images of a batch influence each other": (
        "test_flags_and_draws_do_not_depend_on_batches_or_order",
    ),
    "14 randomness is hidden": (
        "test_flags_and_draws_do_not_depend_on_batches_or_order",
        "test_methods_and_radii_added_later_give_what_one_sweep_gives",
    ),
    "15 NaN counts as a success, or comes from 0 / 0": (
        "test_nan_is_never_a_success",
        "test_a_network_without_gradient_gives_no_nan",
    ),
    "16 a tie means one thing here and another there": (
        "test_a_tie_is_wrong_before_and_after_an_attack",
        "test_a_tie_and_a_nan_are_mistakes",
    ),
    "17 probabilities are taken for logits": ("test_probabilities_are_told_from_logits",),
    "18 the network draws at random": ("test_a_network_that_changes_its_mind_is_noticed",),
    "19 images are rounded to 8 bits": ("test_no_minimal_attack_rounds_to_grey_levels",),
    "20 images and labels are out of step, or normalised twice": (
        "test_a_curve_that_counts_other_clean_images_fails",
        "test_parts_of_a_split_are_disjoint_and_hold_the_images_their_ids_name",
        "test_pixels_fill_the_box_and_do_not_leave_it",
        "test_bounds_do_not_depend_on_how_images_are_packed",
    ),
    "21 predicted labels stand in for the true ones": (
        "test_an_attack_never_makes_a_mistake_right",
        "test_every_share_is_of_all_images",
    ),
    "22 an attack is credited with what was wrong before": (
        "test_no_attack_is_credited_with_a_clean_mistake",
    ),
    "23 restarts are compared by different losses, or the first is kept": (
        "test_restarts_share_their_first_runs_and_only_add",
        "test_targets_are_compared_by_margin_and_not_by_their_losses",
    ),
    "24 the fast gradient method in L1 means three things": (
        "test_the_fast_gradient_method_in_l1_moves_the_steepest_pixel",
        "test_steepest_has_size_one_and_ascends_most",
    ),
    "25 a timing does not wait, or counts compilation": (
        "test_a_timing_leaves_compilation_out",
        "test_a_timing_waits_for_the_device",
    ),
    "26 the norm reported is not the one attacked": (
        "test_sizes_are_those_of_the_norm_by_hand",
        "test_every_method_says_what_it_does_with_its_own_numbers",
    ),
    "27 Square takes rows of pixels for squares": ("test_square_changes_squares_of_the_picture",),
}


def test_every_bug_has_tests_that_exist():
    names = {
        node.name
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert [int(bug.split()[0]) for bug in BUGS] == list(range(1, 28))
    for bug, tests in BUGS.items():
        assert tests, bug
        assert names.issuperset(tests), bug
