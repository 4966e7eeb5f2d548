"""Messages about mistakes of the user."""

import pytest

from robust_mnist.errors import InputError, closest, unknown


def test_a_message_is_a_single_line_whatever_it_quotes():
    assert str(InputError("folder\nwith\r\nline ends\u2028: bad")) == "folder with line ends : bad"


def test_a_message_names_the_kind_the_name_the_choices_and_the_closest():
    error = unknown("activation", "tanhh", iter(["relu", "tanh"]))
    assert isinstance(error, InputError)
    assert str(error) == (
        "unknown activation 'tanhh': choose from relu, tanh; did you mean 'tanh'?"
    )


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("pgd40-link", "; did you mean 'pgd40-linf'?"),
        ("PGD40-LINF", "; did you mean 'pgd40-linf'?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_the_closest_name_is_suggested_only_if_it_is_close(name, suggestion):
    assert closest(name, ["pgd40-linf", "fgsm-l2"]) == suggestion
