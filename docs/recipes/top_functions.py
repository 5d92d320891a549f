"""The functions that took most of a service's time, straight from a block's Parquet files.

    python3 top_functions.py BLOCK SERVICE [TENANT] [--type=TYPE] [--json]

BLOCK is a folder with the block's objects as they lie in the store: blocks/<id>/ of a file store,
or what `scoria block export` wrote. Needs nothing of Scoria's, only `pip install duckdb`.
"""

import json
import sys
from pathlib import Path

import duckdb

QUERY = """
with
-- Stacks that samples end in, the most frequent first: their places are the stack ranks.
ranks as (
    select row_number() over (order by n_samples desc, id) - 1 as stack_rank, id as node
    from stacks where n_samples > 0),
-- Samples hold the distance to the rank before, within their profile.
hits as (
    select p.profile_type, s.value,
           sum(s.stack_rank_delta::bigint) over (partition by s.profile order by s.row) as stack_rank
    from values_of_samples s join profiles p on p.row = s.profile),
per_rank as (
    select stack_rank, sum(value) as value from hits where profile_type = $type group by all),
-- The tree in pre-order: a node's depth follows from the levels climbed, its parent is the last
-- node before it that is one level higher.
depths as (
    select id, location, sum(1 - up::bigint) over (order by id) - 1 as depth from stacks),
parents as (
    select child.id, child.location, parent.id as parent
    from depths child asof left join depths parent
    on parent.depth = child.depth - 1 and parent.id < child.id),
-- Each location is one function or several that were inlined into each other, innermost first.
frames as (
    select l.id as location, i.place, f.string as function
    from locations l, (select unnest(generate_series(1, 64)) as place) i
    join functions n on n.id = l.lines[i.place].function
    join strings f on f.id = n.name
    where i.place <= len(l.lines)),
climbs as (
    with recursive climb(stack_rank, node, leaf) as (
        select stack_rank, node, true from ranks
        union all
        select c.stack_rank, p.parent, false
        from climb c join parents p on p.id = c.node where p.parent is not null)
    select * from climb),
named as (
    select c.stack_rank, f.function, bool_or(c.leaf and f.place = 1) as is_leaf
    from climbs c join parents p on p.id = c.node join frames f on f.location = p.location
    group by all)
select n.function,
       sum(case when n.is_leaf then r.value else 0 end)::bigint as self,
       sum(r.value)::bigint as total
from named n join per_rank r using (stack_rank)
group by all order by self desc, total desc, function
"""


def read(folder, service, tenant):
    """A connection in which each table is a view of the dataset's rows alone."""
    datasets = json.loads((folder / "manifest.json").read_text())["block"]["datasets"]
    dataset = next(d for d in datasets if (d["tenant"], d["service"]) == (tenant, service))
    connection = duckdb.connect()
    for table, (start, end) in dataset["rows"].items():
        connection.sql(f"""create view {table} as
            select file_row_number as row, file_row_number - {start} as id, * exclude (file_row_number)
            from read_parquet('{folder / table}.parquet', file_row_number = true)
            where file_row_number >= {start} and file_row_number < {end}""")
    return connection, dataset


def top_functions(folder, service, tenant, profile_type):
    connection, dataset = read(folder, service, tenant)
    # A type's samples all lie in one of two tables; which one is in FORMATS.md.
    kind = profile_type.split(":")
    snapshots = ("inuse", "alloc", "live", "goroutine", "threadcreate")
    in_snapshots = kind[1].startswith(snapshots) or kind[0].startswith(snapshots[3:])
    table = "snapshots" if in_snapshots else "samples"
    connection.sql(f"create view values_of_samples as select * from {table}")
    return connection.execute(QUERY, {"type": profile_type}).fetchall()


def main():
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    flags = dict(word[2:].partition("=")[::2] for word in sys.argv[1:] if word.startswith("--"))
    folder, service = Path(words[0]), words[1]
    tenant = words[2] if len(words) > 2 else "anonymous"
    profile_type = flags.get("type", "process_cpu:cpu:nanoseconds:cpu:nanoseconds")
    rows = top_functions(folder, service, tenant, profile_type)
    if "json" in flags:
        print(json.dumps([{"function": f, "self": s, "total": t} for f, s, t in rows]))
        return
    for function, own, total in rows[:20]:
        print(f"{own:>16} {total:>16}  {function}")


main()
