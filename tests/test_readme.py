import doctest
from pathlib import Path


README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_python_in_the_readme_does_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = README.read_text(encoding="utf-8")
    block = text.partition("```python\n")[2].partition("```")[0]
    parser = doctest.DocTestParser()
    example = parser.get_doctest(block, {}, "README", str(README), 0)
    assert 8 <= len(example.examples) <= 14
    runner = doctest.DocTestRunner()
    runner.run(example)
    assert runner.failures == 0
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_every_command_and_flag_in_the_readme_exists():
    """A flag that was renamed must not live on in the examples."""
    import re
    import shlex

    from robust_mnist import cli

    lines = re.findall(r"^(robust-mnist .+?)(?:\s+#.*)?$", README.read_text(), re.MULTILINE)
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line)[1:]
        assert words == ["--help"] or cli.parse(words) is not None, line


def test_the_pictures_in_the_readme_exist():
    import re

    paths = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    assert len(paths) >= 2
    for path in paths:
        assert (README.parent / path).is_file(), path
