-- A task hub in one SQLite file.
--
-- instances holds what everyone queries, one row an instance, as its last checkpoint left it. history holds what the
-- instance is: one row a checkpoint, of the current execution only. mail holds messages that no checkpoint has used up
-- yet, timers among them. A checkpoint is one transaction over the three.
--
-- Times are microseconds since 1970 in UTC. Payloads are JSON text.

create table meta (
    key text primary key,
    value text not null
) strict, without rowid;

-- The right to run a partition. epoch grows with every change of owner and is never used twice.
create table partitions (
    id integer primary key,
    owner text,
    epoch integer not null default 0,
    until integer not null default 0
) strict;

create table hosts (
    id text primary key,
    until integer not null
) strict, without rowid;

-- open_work: 0 waits for mail; 1 has open activities; 2 has an execution to begin.
create table instances (
    id text primary key check (id <> ''),
    partition integer not null,
    execution_id text not null check (execution_id <> ''),
    position integer not null default 0,
    open_work integer not null check (open_work in (0, 1, 2)),
    name text not null,
    status text not null check (status in ('Pending', 'Running', 'Completed', 'Failed', 'Terminated')),
    created_at integer not null,
    updated_at integer not null,
    completed_at integer,
    created_by text not null,
    input text,
    output text,
    custom_status text,
    failure blob,
    version text,
    parent blob,
    tags blob
) strict;

create index instances_by_creation on instances (created_at, id);
create index instances_with_open_work on instances (partition, open_work, id) where open_work > 0;

-- epoch, consumed and crc cost no row of their own and let the checker prove fencing, conservation of mail, and bit rot.
-- Rows are appended: kept in order of the key, each would dirty a page of its own, and commits take a third longer.
create table history (
    instance_id text not null,
    position integer not null,
    execution_id text not null,
    epoch integer not null,
    consumed text not null,
    custom_status text,
    crc integer not null,
    events blob not null,
    primary key (instance_id, position)
) strict;

-- due: -1 carried over from the generation before, 0 at once, else the time of delivery. seq is never used twice.
create table mail (
    seq integer primary key autoincrement,
    id text not null unique check (id <> ''),
    partition integer not null,
    instance_id text not null,
    execution_id text,
    due integer not null,
    event blob not null
) strict;

create index mail_by_due on mail (partition, due, seq);
create index mail_by_instance on mail (instance_id);

-- What `send` answered, so that a repeated request gets the same answer; kept for a day.
create table requests (
    id text primary key,
    status text,
    at integer not null
) strict, without rowid;

create index requests_by_age on requests (at);
