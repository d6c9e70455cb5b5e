-- When timer functions ran last and are to run next, so that a run is made up for that came due while no host was there.
create table schedules (
    name text primary key,
    schedule text not null,
    last integer,
    next integer not null,
    updated_at integer not null
) strict, without rowid;
