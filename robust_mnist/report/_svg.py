"""SVG figures as part of an HTML page."""

import re
import xml.etree.ElementTree as ET

from markupsafe import Markup

from robust_mnist import figures


_URL = re.compile(r"url\(#([\w.-]+)\)")
_NAMESPACE = re.compile(r"\{[^}]*\}")


def inline(svg: str, name: str, label: str) -> Markup:
    """A figure as an `<svg>` element that takes part in the page.

    Its identifiers get a prefix, because those of all figures share one page. Text, axes and grid
    take the colour of the page's text and the background is left out, so that the figure follows
    light and dark. What nobody sees, such as the names of groups, is left out as well.

    Args:
        svg: What `figures.svg` returned.
        name: Prefix of the identifiers, unique on the page.
        label: What a screen reader says.

    Returns:
        The element; the label is escaped.
    """
    root = ET.fromstring(svg)
    for element in root.iter():
        _drop_namespaces(element)
    _drop_background(root)
    _drop(root, {"metadata", "style"})
    used = {target for element in root.iter() for target in _references(element)}
    for element in root.iter():
        _rename(element, name, used)
        _shorten(element)
    _flatten(root)
    view_box = root.get("viewBox", "")
    root.attrib = {"viewBox": view_box, "role": "img", "aria-label": label, "class": "plot"}
    return Markup(ET.tostring(root, encoding="unicode"))


def _drop_namespaces(element: ET.Element) -> None:
    """In HTML the namespaces of SVG go without saying."""
    element.tag = _NAMESPACE.sub("", element.tag)
    element.attrib = {_NAMESPACE.sub("", key): value for key, value in element.attrib.items()}
    element.text = element.tail = None


def _drop_background(root: ET.Element) -> None:
    """The first patch of a figure is its sheet of paper."""
    for group in root.iter("g"):
        paper = group.find("g[@id='patch_1']")
        if paper is not None:
            group.remove(paper)
            return


def _drop(parent: ET.Element, tags: set[str]) -> None:
    for child in list(parent):
        if child.tag in tags or _invisible(child):
            parent.remove(child)
        else:
            _drop(child, tags)


def _invisible(element: ET.Element) -> bool:
    return element.tag == "path" and element.get("style", "").strip() == "fill: none"


def _references(element: ET.Element) -> list[str]:
    """Names of the elements that this one points to, by a link or from its style."""
    link = element.get("href", "")
    found = [name for value in element.attrib.values() for name in _URL.findall(value)]
    return [*found, link[1:]] if link.startswith("#") else found


def _rename(element: ET.Element, prefix: str, used: set[str]) -> None:
    for key, value in list(element.attrib.items()):
        if key == "id":
            if value in used:
                element.set(key, f"{prefix}-{value}")
            else:
                del element.attrib[key]
        elif key == "href" and value.startswith("#"):
            element.set(key, f"#{prefix}-{value[1:]}")
        else:
            element.set(key, _URL.sub(rf"url(#{prefix}-\1)", value))


def _shorten(element: ET.Element) -> None:
    for key, value in list(element.attrib.items()):
        if key == "href":
            continue  # a picture, which may hold any letters
        short = " ".join(value.split())
        element.set(key, short.replace(figures.INK, "currentColor"))


def _flatten(parent: ET.Element) -> None:
    """Replace groups that carry nothing by what is in them."""
    children: list[ET.Element] = []
    for child in list(parent):
        _flatten(child)
        children.extend(child if child.tag == "g" and not child.attrib else [child])
    for child in list(parent):
        parent.remove(child)
    parent.extend(children)
