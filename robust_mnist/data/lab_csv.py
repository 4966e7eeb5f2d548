"""The CSV of teaching notebooks: one image per row, its label first, then 784 grey levels."""

import contextlib
import io
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

import numpy as np
from jaxtyping import Num, UInt8

from robust_mnist.data._streams import MAX_BYTES, opened, regular
from robust_mnist.data._values import complaint, first_wrong
from robust_mnist.errors import InputError


COLUMNS = 785
LARGEST = np.array([9] + [255] * 784)  # a class, then grey levels
MOST = MAX_BYTES // COLUMNS  # lines
LONGEST = 2**15  # characters in a line: 41 for each number, far more than any writer needs
BLOCK = 500  # rows parsed at once, so that the table of floats stays small


class _Row(NamedTuple):
    line: int
    text: str


def read(
    path: pathlib.Path,
) -> tuple[UInt8[np.ndarray, "images pixels"], UInt8[np.ndarray, " images"]]:
    """Images of shape (n, 784) and labels of shape (n,) from a CSV file, `.gz` or not.

    A header line is recognised by its first cell, which is not a number. Blank lines are skipped.
    Whole numbers may be written as floats, such as `6.0` or `6.000000e+00`.

    Raises:
        InputError: The file cannot be read, or a line is not a label 0..9 and 784 whole numbers
            0..255. The message names the line, counted from 1.
    """
    with opened(regular(path)) as stream:
        blocks = [_parse(block, path) for block in _blocks(_rows(stream, path))]
    if not blocks:
        raise InputError(f"{path}: holds no rows; give a label and 784 pixels on each line")
    table = np.concatenate(blocks)
    return np.ascontiguousarray(table[:, 1:]), np.ascontiguousarray(table[:, 0])


def _rows(stream: io.BufferedIOBase, path: pathlib.Path) -> Iterator[_Row]:
    first = True
    for number in itertools.count(1):
        raw = stream.readline(LONGEST + 1)
        if not raw:
            return
        if number > MOST:
            raise InputError(f"{path}: more than the {MOST} lines allowed; keep fewer")
        text = _decode(raw, f"{path}, line {number}")
        if not text:
            continue
        cells = text.count(",") + 1
        if cells != COLUMNS:
            raise InputError(
                f"{path}, line {number}: expected {COLUMNS} columns, a label and 784 pixels "
                f"separated by commas, got {cells}; correct or drop that line"
            )
        if not (first and _is_header(text)):
            yield _Row(number, text)
        first = False


def _is_header(text: str) -> bool:
    """Whether a line names the columns; one whose label alone is no number is a bad row."""
    label, *pixels = (cell.strip() for cell in text.split(","))
    counted = pixels[0] in {"0", "1"} and pixels[1:] == [
        str(int(pixels[0]) + at) for at in range(1, len(pixels))
    ]
    return not _is_number(label) and (counted or not all(map(_is_number, pixels)))


def _decode(raw: bytes, where: str) -> str:
    if len(raw) > LONGEST:
        raise InputError(
            f"{where}: longer than {LONGEST} characters; name a CSV file of short lines"
        )
    try:
        # Spreadsheets put a byte-order mark in front.
        return raw.removeprefix(b"\xef\xbb\xbf").decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not plain text; save it as a CSV of plain numbers") from error


def _blocks(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    while block := list(itertools.islice(rows, BLOCK)):
        yield block


def _parse(block: list[_Row], path: pathlib.Path) -> UInt8[np.ndarray, "rows columns"]:
    try:
        table = _numbers([row.text for row in block])
    except ValueError:
        _blame_cell(block, path)
    wrong = first_wrong(table, LARGEST)
    if wrong is None:
        return table.astype(np.uint8)
    row, column = wrong
    kind = "pixel" if column else "label"
    raise InputError(
        f"{path}, line {block[row].line}, column {column + 1}: "
        + complaint(kind, table[row, column], int(LARGEST[column]))
    )


def _numbers(lines: Sequence[str]) -> Num[np.ndarray, "rows columns"]:
    # Integers are read six times faster than floats. Old numpy lets `6.5` pass as an integer, so
    # only digits may go that way.
    if all(line.replace(",", "").isdigit() for line in lines):
        with contextlib.suppress(ValueError, OverflowError):
            return _loadtxt(lines, np.int16)
    return _loadtxt(lines, np.float64)


def _loadtxt(lines: Sequence[str], dtype: type) -> Num[np.ndarray, "rows columns"]:
    return np.loadtxt(lines, dtype, delimiter=",", comments=None, ndmin=2)


def _blame_cell(block: list[_Row], path: pathlib.Path) -> NoReturn:
    for row in block:
        for column, cell in enumerate(row.text.split(","), 1):
            if not _is_number(cell):
                shown = cell if len(cell) <= 20 else cell[:20] + "..."
                raise InputError(
                    f"{path}, line {row.line}, column {column}: {shown!r} is not a number; "
                    "correct that cell or drop the row"
                )
    raise InputError(
        f"{path}: lines {block[0].line} to {block[-1].line} are not all numbers; "
        "correct or drop those that are not"
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python reads 1_000, files of numbers do not hold it
