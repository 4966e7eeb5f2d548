import subprocess
import sys

import pytest


PLUGIN = """
from robust_mnist.attacks import FGM
from robust_mnist.threat import Linf

attack = FGM(Linf())
"""


def install(folder, name, target, module=PLUGIN):
    """Lay out an installed package with one entry point, as a package manager would."""
    (folder / "their_package.py").write_text(module)
    info = folder / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[robust_mnist.attacks]\n{name} = {target}\n")


def methods(folder):
    script = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "from robust_mnist import cli\nsys.exit(cli.main(['methods']))"
    )
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )


def test_an_attack_of_another_package_is_listed_by_its_name(tmp_path):
    install(tmp_path, "their-attack", "their_package:attack")
    done = methods(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "their-attack" in done.stdout
    assert "pgd40-linf" in done.stdout


@pytest.mark.parametrize(
    ("name", "target", "said"),
    [
        ("pgd40-linf", "their_package:attack", "takes a name that is in use"),
        ("broken", "their_package:nothing", "cannot be loaded"),
    ],
)
def test_a_bad_plugin_is_named_in_one_line(tmp_path, name, target, said):
    install(tmp_path, name, target)
    done = methods(tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "their-package" in done.stderr
    assert "Traceback" not in done.stderr
