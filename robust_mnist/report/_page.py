"""Templates into one HTML file that needs nothing else."""

import dataclasses
from typing import Any

import jinja2
from markupsafe import Markup

from robust_mnist.report import _svg


@dataclasses.dataclass(frozen=True)
class Plate:
    """A figure on a page, or the sentence that stands in its place.

    Attributes:
        name: Anchor and name of the files.
        title: Heading.
        reading: How to read it.
        limits: What it does not say.
        svg: The drawing; None where there is nothing to draw.
        missing: Why there is no drawing.
        command: What makes it.
    """

    name: str
    title: str
    reading: str
    limits: str
    svg: str | None
    missing: str
    command: str = ""

    def inline(self, shared: _svg.Shared) -> Markup:
        """The drawing as part of the page that holds `shared`."""
        if self.svg is None:
            raise ValueError(f"there is no drawing of {self.name}")
        return _svg.inline(self.svg, self.name, f"{self.title}. {self.reading}", shared)


def render(template: str, **context: Any) -> str:
    """Fill in a template of this package. Every text is escaped, an unknown name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("robust_mnist.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["shared"] = _svg.Shared()
    return environment.get_template(template).render(**context)
