"""Pages, tables and published results of runs. Nothing here needs JAX or the networks."""

from robust_mnist.report._accelerators import accelerators_text as accelerators_text
from robust_mnist.report._build import build as build
from robust_mnist.report._commands import unfinished as unfinished
from robust_mnist.report._grids import duration as duration
from robust_mnist.report._owner import is_page_of as is_page_of
from robust_mnist.report._publish import (
    LIMIT as LIMIT,
    Published as Published,
    check_owner as check_owner,
    publish as publish,
)
from robust_mnist.report._text import text_table as text_table
from robust_mnist.report._timings import (
    append_summary as append_summary,
    write_accelerators as write_accelerators,
    write_history as write_history,
)
from robust_mnist.report._trust import (
    trust_line as trust_line,
    unchecked_line as unchecked_line,
)
