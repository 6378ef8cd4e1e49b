#!/usr/bin/env python3
"""What windows over the Azure trace hold, for tests/azure_trace.rs: tumbling ones of a minute, sliding ones of ten minutes each
minute, and sessions ended by 30 seconds of silence.

Plain Python: integers and fractions, rounded once. With --duckdb every window and figure is compared with DuckDB's, which finds them
its own way, before the files are written. Without --write the files are not touched, only compared.

  python3 tests/data/make_azure_expected.py [--duckdb] [--write]
"""

import argparse
import csv
import json
import sys
from collections import defaultdict
from datetime import datetime, timezone
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

HERE = Path(__file__).resolve().parent
TRACE = HERE / "azure_llm_2023_conv.csv"
PERCENTILES = (50, 95, 99)
FIELDS = ("ContextTokens", "GeneratedTokens")
MINUTE_MS = 60_000
GAP_MS = 30_000
# The keys of the jobs, made of how long the prompt is. tests/azure_trace.rs writes the same words into its events.
SIZES = ((256, "short"), (1024, "medium"), (4096, "long"))
BLOCK = 256


def size_of(context_tokens):
    return next((name for below, name in SIZES if context_tokens < below), "huge")


KEYS = {
    "all": lambda context_tokens: None,
    "by_size": size_of,
    # Prompts of about one length: many keys, most of them silent for long.
    "by_block": lambda context_tokens: f"block {context_tokens // BLOCK}",
}


def milliseconds(text):
    """Milliseconds since 1970; finer digits are cut off."""
    whole, fraction = text.split(".")
    moment = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
    return int(moment.timestamp()) * 1000 + int(fraction[:3])


def read_trace():
    with TRACE.open(newline="") as file:
        for row in csv.DictReader(file):
            yield milliseconds(row["TIMESTAMP"]), {field: int(row[field]) for field in FIELDS}


def fixed(size, slide):
    """Windows by the definition: those of each multiple of the slide that hold an event, each of its events looked for."""

    def windows(events):
        times = [time for time, _ in events]
        first = (min(times) - size) // slide * slide
        for start in range(first, max(times) + 1, slide):
            inside = [fields for time, fields in events if start <= time < start + size]
            if inside:
                yield start, start + size, inside

    return windows


def sessions(gap):
    """Sorted by time, a new one wherever an event is not less than the gap after the one before it."""

    def windows(events):
        ordered = sorted(events, key=lambda event: event[0])
        begins = [n for n in range(len(ordered)) if n == 0 or ordered[n][0] - ordered[n - 1][0] >= gap]
        for begin, end in zip(begins, begins[1:] + [len(ordered)]):
            session = ordered[begin:end]
            yield session[0][0], session[-1][0] + gap, [fields for _, fields in session]

    return windows


KINDS = {
    "tumbling": (fixed(MINUTE_MS, MINUTE_MS), ("all", "by_size")),
    "sliding": (fixed(10 * MINUTE_MS, MINUTE_MS), ("all", "by_size")),
    "session": (sessions(GAP_MS), ("all", "by_size", "by_block")),
}


def standard_deviation(values):
    """The sample's: its square is an exact fraction, the root has 50 digits before it is rounded."""
    if len(values) < 2:
        return None
    count, total = len(values), sum(values)
    variance = Fraction(count * sum(value * value for value in values) - total * total, count * (count - 1))
    with localcontext() as context:
        context.prec = 50
        return float((Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt())


def figures(values):
    ordered = sorted(values)
    result = {
        "count": len(values),
        "sum": sum(values),
        "average": float(Fraction(sum(values), len(values))),
        "min": ordered[0],
        "max": ordered[-1],
        "stddev": standard_deviation(values),
    }
    for percent in PERCENTILES:
        # Nearest rank: the least value with at least this share of the values at or below it.
        rank = max(1, -(-percent * len(values) // 100))
        result[f"p{percent}"] = ordered[rank - 1]
    return result


def results(rows, windows_of, key_of):
    by_key = defaultdict(list)
    for time, fields in rows:
        by_key[key_of(fields["ContextTokens"])].append((time, fields))
    found = [
        {
            "start_ms": start,
            "end_ms": end,
            "key": key,
            **{field: figures([fields[field] for fields in inside]) for field in FIELDS},
        }
        for key, events in by_key.items()
        for start, end, inside in windows_of(events)
    ]
    return sorted(found, key=identity)


def identity(window):
    return window["start_ms"], window["end_ms"], window["key"] or ""


# For each event and each of its windows a row with the window's bounds.
DUCKDB_WINDOWS = {
    "tumbling": """
        SELECT *, epoch_ms(time_bucket(INTERVAL 1 MINUTE, moment)) AS w_start, w_start + 60000 AS w_end FROM events""",
    "sliding": """
        SELECT *, epoch_ms(bucket) AS w_start, epoch_ms(bucket + INTERVAL 10 MINUTE) AS w_end
        FROM (SELECT *, unnest(generate_series(time_bucket(INTERVAL 1 MINUTE, moment) - INTERVAL 9 MINUTE,
                                               time_bucket(INTERVAL 1 MINUTE, moment), INTERVAL 1 MINUTE)) AS bucket
              FROM events)""",
    "session": """
        SELECT *, min(ms) OVER one AS w_start, max(ms) OVER one + 30000 AS w_end
        FROM (SELECT *, sum(begins) OVER (PARTITION BY key ORDER BY ms) AS number
              FROM (SELECT *, CASE WHEN ms - lag(ms) OVER (PARTITION BY key ORDER BY ms) < 30000 THEN 0 ELSE 1 END AS begins
                    FROM events))
        WINDOW one AS (PARTITION BY key, number)""",
}
DUCKDB_KEYS = {
    "all": "''",
    "by_size": "CASE "
    + " ".join(f"WHEN ContextTokens < {below} THEN '{name}'" for below, name in SIZES)
    + " ELSE 'huge' END",
    "by_block": f"'block ' || (ContextTokens // {BLOCK})",
}


def compare_with_duckdb(kind, key, windows):
    """Every figure against DuckDB's, which computes in floating point: average and deviation to 12 digits. Returns how many."""
    import duckdb

    columns = []
    for field in FIELDS:
        columns += [f"count({field})", f"sum({field})", f"avg({field})", f"min({field})", f"max({field})"]
        columns += [f"stddev_samp({field}::DOUBLE)"]
        columns += [f"quantile_disc({field}, {percent / 100})" for percent in PERCENTILES]
    query = f"""
        WITH events AS (
            SELECT strptime(left(TIMESTAMP, 23), '%Y-%m-%d %H:%M:%S.%g') AS moment, epoch_ms(moment) AS ms,
                   {DUCKDB_KEYS[key]} AS key, *
            FROM read_csv('{TRACE}', all_varchar = false, types = {{'TIMESTAMP': 'VARCHAR'}}))
        SELECT w_start, w_end, key, {", ".join(columns)} FROM ({DUCKDB_WINDOWS[kind]}) GROUP BY ALL ORDER BY ALL"""
    rows = duckdb.sql(query).fetchall()
    assert len(rows) == len(windows), f"{len(rows)} windows in DuckDB, {len(windows)} here"
    names = list(figures([1, 2]))
    compared = 0
    for row, window in zip(rows, windows):
        assert row[:3] == identity(window), (row[:3], window)
        found = iter(row[3:])
        for field in FIELDS:
            for name in names:
                theirs, ours = next(found), window[field][name]
                if name in ("average", "stddev") and theirs is not None and ours is not None:
                    same = abs(theirs - ours) <= 1e-12 * abs(ours)
                else:
                    same = theirs == ours
                assert same, f"{identity(window)} {field}.{name}: {theirs} in DuckDB, {ours} here"
                compared += 1
    return compared


def text_of(jobs):
    lines = [
        f' "{name}": [\n' + ",\n".join("  " + json.dumps(window) for window in windows) + "\n ]"
        for name, windows in jobs.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duckdb", action="store_true", help="compare with DuckDB")
    parser.add_argument("--write", action="store_true", help="write the files")
    options = parser.parse_args()

    rows = list(read_trace())
    differing = []
    for kind, (windows_of, keys) in KINDS.items():
        jobs = {key: results(rows, windows_of, KEYS[key]) for key in keys}
        if options.duckdb:
            compared = sum(compare_with_duckdb(kind, key, windows) for key, windows in jobs.items())
            print(f"{kind}: {compared} figures agree with DuckDB's")
        path = HERE / f"azure_{kind}.json"
        if options.write:
            path.write_text(text_of(jobs))
        elif not path.exists() or text_of(jobs) != path.read_text():
            differing.append(path.name)
        print(f"{kind}: " + ", ".join(f"{len(windows)} windows {key}" for key, windows in jobs.items()))
    if differing:
        sys.exit(f"{', '.join(differing)}: not what this script computes; --write replaces it")


if __name__ == "__main__":
    main()
