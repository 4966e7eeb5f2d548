"""SVG figures as part of an HTML page."""

import re
import xml.etree.ElementTree as ET

from markupsafe import Markup

from robust_mnist import figures


_URL = re.compile(r"url\(#([\w.-]+)\)")
# Hundredths of a point are enough to place a letter, and a third of the figures of its place.
_PLACE = re.compile(r"translate\([^)]*\)")
_FRACTION = re.compile(r"(?<=\.\d\d)\d+")
_NAMESPACE = re.compile(r"\{[^}]*\}")


class Shared:
    """The letters, markers and styles of all figures on a page, each of them held once."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[tuple[str, str], ...], str] = {}
        self._styles: dict[str, str] = {}

    def shape(self, path: ET.Element) -> str:
        """The identifier of a shape on this page, the same for the same shape."""
        return self._shapes.setdefault(
            tuple(sorted((key, value) for key, value in path.attrib.items() if key != "id")),
            f"s{len(self._shapes)}",
        )

    def style(self, text: str) -> str:
        """The class of a style on this page, the same for the same style."""
        return self._styles.setdefault(text, f"c{len(self._styles)}")

    def element(self) -> Markup:
        """What holds them: an `<svg>` that takes no room, for the end of the page."""
        root = ET.Element("svg", {"class": "shared", "aria-hidden": "true"})
        style, defs = ET.SubElement(root, "style"), ET.SubElement(root, "defs")
        style.text = "".join(f".{name}{{{text}}}" for text, name in self._styles.items())
        for attributes, name in self._shapes.items():
            ET.SubElement(defs, "path", {"id": name, **dict(attributes)})
        return Markup(ET.tostring(root, encoding="unicode"))


def inline(svg: str, name: str, label: str, shared: Shared) -> Markup:
    """A figure as an `<svg>` element that takes part in the page.

    Its identifiers get a prefix, because those of all figures share one page. Text, axes and grid
    take the colour of the page's text and the background is left out, so that the figure follows
    light and dark. What nobody sees, such as the names of groups, is left out as well. Letters,
    markers and styles are taken from `shared`: repeated they are a third of the page.

    Args:
        svg: What `figures.svg` returned.
        name: Prefix of the identifiers, unique on the page.
        label: What a screen reader says.
        shared: What the figures of the page have in common, to which this one's is added.

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
    _share(root, shared)
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
        if key == "transform":
            short = _PLACE.sub(lambda place: _FRACTION.sub("", place.group()), short)
        element.set(key, short.replace(figures.INK, "currentColor"))


def _share(root: ET.Element, shared: Shared) -> None:
    names: dict[str, str] = {}
    for parent in list(root.iter()):
        for defs in parent.findall("defs"):
            for shape in defs.findall("path[@id]"):
                names[f"#{shape.attrib['id']}"] = f"#{shared.shape(shape)}"
                defs.remove(shape)
            if not len(defs):
                parent.remove(defs)
    for use in root.iter("use"):
        use.set("href", names.get(use.attrib["href"], use.attrib["href"]))
    for element in root.iter():
        if style := element.attrib.pop("style", ""):
            element.set("class", shared.style(style))


def _flatten(parent: ET.Element) -> None:
    """Replace groups that carry nothing by what is in them."""
    children: list[ET.Element] = []
    for child in list(parent):
        _flatten(child)
        children.extend(child if child.tag == "g" and not child.attrib else [child])
    for child in list(parent):
        parent.remove(child)
    parent.extend(children)
