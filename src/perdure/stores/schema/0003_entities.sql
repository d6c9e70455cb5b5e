-- Entities: one row each, and no history. lock says which execution has the entity for itself.
create table entities (
    id text primary key check (id <> ''),
    partition integer not null,
    execution_id text not null,
    position integer not null,
    created_at integer not null,
    updated_at integer not null,
    state text,
    lock blob
) strict;

-- The locks of entities that an execution has asked for and not given back.
create table held_locks (
    instance_id text primary key,
    locks blob not null
) strict, without rowid;
