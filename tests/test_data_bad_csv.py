"""CSV files that are not sound end in one line that names the line of the file."""

import gzip

from data_files import cases, complaint, csv_bytes, some_arrays, write

from robust_mnist.data import lab_csv


ARRAYS = some_arrays()
ROWS = csv_bytes(*ARRAYS[:2])


def cell(line: int, column: int, text: str, *, header: bool = False) -> bytes:
    """The CSV of `ARRAYS` with one cell replaced; line and column count from 1."""
    lines = csv_bytes(*ARRAYS[:2], header=header).decode().splitlines()
    cells = lines[line - 1].split(",")
    cells[column - 1] = text
    lines[line - 1] = ",".join(cells)
    return "\n".join(lines).encode()


@cases(
    "content",
    (b"", "holds no rows"),
    (b"\n \n", "holds no rows"),
    (csv_bytes(ARRAYS[0][:0], ARRAYS[1][:0], header=True), "holds no rows"),
    (cell(2, 1, "10"), "line 2, column 1: label 10 is not a whole number from 0 to 9"),
    (cell(2, 1, "2.5"), "line 2, column 1: label 2.5 is not a whole number"),
    (cell(2, 1, "-1"), "line 2, column 1: label -1 is not"),
    (cell(3, 1, "seven"), "line 3, column 1: 'seven' is not a number"),
    (cell(3, 1, "seven", header=True), "line 3, column 1: 'seven' is not a number"),
    (cell(1, 1, "seven"), "line 1, column 1: 'seven' is not a number"),
    (cell(1, 1, ""), "line 1, column 1: '' is not a number"),
    (cell(1, 785, "256"), "line 1, column 785: pixel 256 is not a whole number from 0 to 255"),
    (cell(2, 700, "99999"), "line 2, column 700: pixel 99999 is not"),
    (cell(2, 700, "1e300"), "line 2, column 700: pixel 1e+300 is not"),
    (cell(2, 700, "9" * 400), "line 2, column 700: pixel inf is not"),
    (cell(4, 2, "6.5"), "line 4, column 2: pixel 6.5 is not a whole number"),
    (
        cell(4, 2, "0.5"),
        "pixel 0.5 is not a whole number from 0 to 255, so the images seem to be scaled",
    ),
    (cell(4, 2, "-3"), "line 4, column 2: pixel -3 is not"),
    (cell(4, 2, "nan"), "line 4, column 2: pixel nan is not"),
    (cell(4, 2, "inf"), "line 4, column 2: pixel inf is not"),
    (cell(4, 2, "-inf"), "line 4, column 2: pixel -inf is not"),
    (cell(5, 9, ""), "line 5, column 9: '' is not a number"),
    (cell(5, 9, "x" * 99), f"line 5, column 9: '{'x' * 20}...' is not a number"),
    (cell(5, 9, "1_0"), "line 5, column 9: '1_0' is not a number"),
    (cell(5, 9, '"7"'), "line 5, column 9: '\"7\"' is not a number"),
    (cell(5, 9, "0x7"), "line 5, column 9: '0x7' is not a number"),
    (cell(5, 9, "7#"), "line 5, column 9: '7#' is not a number"),
    (cell(5, 9, "7\0"), "line 5, column 9: '7\\x00' is not a number"),
    (cell(5, 9, "\u0667"), "line 5: not plain text"),
    (cell(2, 9, "1,2"), "line 2: expected 785 columns"),
    (ROWS + b"1,2,3\n", "line 6: expected 785 columns, a label and 784 pixels"),
    (ROWS.replace(b",", b";"), "line 1: expected 785 columns"),
    (b"title\n" + ROWS, "line 1: expected 785 columns"),
    (ROWS.replace(b"\n", b"\r"), "line 1: expected 785 columns"),
    (ROWS.decode().encode("utf-16"), "line 1: not plain text"),
    (b"\n\n" + cell(2, 1, "10"), "line 4, column 1: label 10"),
    (b"0" * 10**5, "line 1: longer than 32768 characters"),
    (ROWS + b"," * 10**5, "line 6: longer than 32768 characters"),
)
def test_bad_csv(tmp_path, content, words):
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    message = complaint(lab_csv.read, path)
    assert message.startswith(str(path))
    assert words in message


def test_line_numbers_hold_beyond_the_first_block(tmp_path):
    """Rows are parsed in blocks of hundreds; the line is that of the file."""
    rows = ROWS * 240 + cell(1, 3, "oops") + b"\n" + ROWS
    path = write(tmp_path / "train.csv", rows)
    assert "line 1201, column 3: 'oops'" in complaint(lab_csv.read, path)


def test_csv_cut_short_in_gzip(tmp_path):
    path = tmp_path / "train.csv.gz"
    path.write_bytes(gzip.compress(ROWS)[:-20])
    assert "cut short" in complaint(lab_csv.read, path)


def test_csv_without_end_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(lab_csv, "MOST", 12)
    path = write(tmp_path / "train.csv", ROWS * 3)
    assert "more than the 12 lines allowed" in complaint(lab_csv.read, path)
