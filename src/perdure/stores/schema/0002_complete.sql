-- What orchestrations need beyond the first schema: suspension, times to start at, children by their parent, large
-- inputs apart from their row, and how often an activity was dispatched after a crash.

-- The payloads stand last, so that what comes before them is read without them.
create table instances_2 (
    id text primary key check (id <> ''),
    partition integer not null,
    execution_id text not null check (execution_id <> ''),
    position integer not null default 0,
    open_work integer not null check (open_work in (0, 1, 2)),
    name text not null,
    status text not null check (status in ('Pending', 'Running', 'Suspended', 'Completed', 'Failed', 'Terminated')),
    created_at integer not null,
    updated_at integer not null,
    completed_at integer,
    start_at integer,
    created_by text not null,
    version text,
    parent blob,
    parent_id text,
    tags blob,
    custom_status text,
    failure blob,
    output text,
    input text
) strict;

insert into instances_2 (
    id, partition, execution_id, position, open_work, name, status, created_at, updated_at, completed_at, created_by,
    version, parent, parent_id, tags, custom_status, failure, output, input
) select
    id, partition, execution_id, position, open_work, name, status, created_at, updated_at, completed_at, created_by,
    version, parent, json_extract(cast(parent as text), '$.instance_id'), tags, custom_status, failure, output, input
from instances order by rowid;

drop table instances;
alter table instances_2 rename to instances;

-- Each status by itself in order of creation: a page of any of them, or of several, is a short walk.
create index instances_by_status on instances (status, created_at, id);
create index instances_with_open_work on instances (partition, open_work, id) where open_work > 0;
create index instances_by_parent on instances (parent_id) where parent_id is not null;

-- Inputs that would be written again with every checkpoint if they stood in the row; its input is null then.
create table large_inputs (
    instance_id text primary key,
    input text not null
) strict;

-- How often an activity that a crash interrupted was about to run again.
create table dispatches (
    instance_id text not null,
    activity_id text not null,
    count integer not null,
    primary key (instance_id, activity_id)
) strict, without rowid;
