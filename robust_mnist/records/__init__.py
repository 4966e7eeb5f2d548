"""What a run leaves behind: settings, history, radii, tidy rows, and the folder that holds them."""

from robust_mnist.records._alone import Alone as Alone, scheduled as scheduled
from robust_mnist.records._exact import (
    ABOUT_CERTIFICATES as ABOUT_CERTIFICATES,
    Exact as Exact,
)
from robust_mnist.records._folder import (
    ON_OPEN_IMAGES as ON_OPEN_IMAGES,
    WARNINGS as WARNINGS,
    Records as Records,
    RunFolder as RunFolder,
    attack_seed as attack_seed,
)
from robust_mnist.records._merge import merge as merge
from robust_mnist.records._open_domains import (
    OpenDomains as OpenDomains,
    holds_open_domains as holds_open_domains,
    read_open_domains as read_open_domains,
    write_open_domains as write_open_domains,
)
from robust_mnist.records._radii import Contradiction as Contradiction, Radii as Radii
from robust_mnist.records._ran import ran_at as ran_at, ran_key as ran_key
from robust_mnist.records._rows import (
    COLUMNS as COLUMNS,
    Row as Row,
    commit as commit,
    table as table,
)
from robust_mnist.records._sandwich import Mean as Mean, Sandwich as Sandwich
from robust_mnist.records._smoothed import Smoothed as Smoothed
from robust_mnist.records._timings import (
    COUNTING as COUNTING,
    TIMINGS_SCHEMA as TIMINGS_SCHEMA,
    Timing as Timing,
    Timings as Timings,
    read_timings as read_timings,
)
