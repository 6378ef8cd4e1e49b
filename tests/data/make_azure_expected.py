#!/usr/bin/env python3
"""What tumbling windows of one minute over the Azure trace hold, for tests/azure_trace.rs.

Plain Python: integers and fractions, rounded once. With --duckdb every figure is compared with DuckDB's before the file is
written. Without --write the file is not touched, only compared.

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
EXPECTED = HERE / "azure_expected.json"
WINDOW_MS = 60_000
PERCENTILES = (50, 95, 99)
FIELDS = ("ContextTokens", "GeneratedTokens")
# The key of the second job: how long the prompt is. tests/azure_trace.rs writes the same words into its events.
SIZES = ((256, "short"), (1024, "medium"), (4096, "long"))


def size_of(context_tokens):
    return next((name for below, name in SIZES if context_tokens < below), "huge")


def milliseconds(text):
    """Milliseconds since 1970; finer digits are cut off."""
    whole, fraction = text.split(".")
    moment = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
    return int(moment.timestamp()) * 1000 + int(fraction[:3])


def read_trace():
    with TRACE.open(newline="") as file:
        for row in csv.DictReader(file):
            yield milliseconds(row["TIMESTAMP"]), {field: int(row[field]) for field in FIELDS}


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


def by_window(rows, key_of):
    groups = defaultdict(lambda: {field: [] for field in FIELDS})
    for time, fields in rows:
        group = groups[time // WINDOW_MS * WINDOW_MS, key_of(fields)]
        for field, value in fields.items():
            group[field].append(value)
    return [
        {"start_ms": start, "key": key, **{field: figures(values) for field, values in group.items()}}
        for (start, key), group in sorted(groups.items())
    ]


def compare_with_duckdb(windows, keyed):
    """Every figure against DuckDB's, which computes in floating point: average and deviation to 12 digits."""
    import duckdb

    size = "CASE " + " ".join(f"WHEN ContextTokens < {below} THEN '{name}'" for below, name in SIZES) + " ELSE 'huge' END"
    key = size if keyed else "''"
    columns = []
    for field in FIELDS:
        columns += [f"count({field})", f"sum({field})", f"avg({field})", f"min({field})", f"max({field})"]
        columns += [f"stddev_samp({field}::DOUBLE)"]
        columns += [f"quantile_disc({field}, {percent / 100})" for percent in PERCENTILES]
    query = f"""
        SELECT epoch_ms(time_bucket(INTERVAL 1 MINUTE, moment)) AS start, {key} AS key, {", ".join(columns)}
        FROM (SELECT strptime(left(TIMESTAMP, 26), '%Y-%m-%d %H:%M:%S.%f') AS moment, * FROM
              read_csv('{TRACE}', all_varchar = false, types = {{'TIMESTAMP': 'VARCHAR'}}))
        GROUP BY ALL ORDER BY ALL"""
    rows = duckdb.sql(query).fetchall()
    assert len(rows) == len(windows), f"{len(rows)} windows in DuckDB, {len(windows)} here"
    names = list(figures([1, 2]))
    compared = 0
    for row, window in zip(rows, windows):
        assert (row[0], row[1]) == (window["start_ms"], window["key"] or ""), (row[:2], window)
        found = iter(row[2:])
        for field in FIELDS:
            for name in names:
                theirs, ours = next(found), window[field][name]
                if name in ("average", "stddev") and theirs is not None and ours is not None:
                    same = abs(theirs - ours) <= 1e-12 * abs(ours)
                else:
                    same = theirs == ours
                assert same, f"{window['start_ms']} {window['key']} {field}.{name}: {theirs} in DuckDB, {ours} here"
                compared += 1
    print(f"DuckDB {duckdb.__version__}: {compared} figures agree")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duckdb", action="store_true", help="compare with DuckDB")
    parser.add_argument("--write", action="store_true", help=f"write {EXPECTED.name}")
    options = parser.parse_args()

    rows = list(read_trace())
    jobs = {"all": by_window(rows, lambda _: None), "by_size": by_window(rows, lambda f: size_of(f["ContextTokens"]))}
    if options.duckdb:
        compare_with_duckdb(jobs["all"], keyed=False)
        compare_with_duckdb(jobs["by_size"], keyed=True)
    lines = [
        f' "{name}": [\n' + ",\n".join("  " + json.dumps(window) for window in windows) + "\n ]"
        for name, windows in jobs.items()
    ]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    if options.write:
        EXPECTED.write_text(text)
    elif text != EXPECTED.read_text():
        sys.exit(f"{EXPECTED} holds something else; --write replaces it")
    print(f"{len(rows)} requests, {len(jobs['all'])} windows, {len(jobs['by_size'])} windows by size")


if __name__ == "__main__":
    main()
