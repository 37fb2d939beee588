-- Batches: what came in, and one result a record.

-- A batch whose service was deleted is seen by nobody; its rows are removed some at a time, since there may be millions.
-- state: arriving (its records are being stored) -> open -> complete or failed; deleted: its rows are being removed.
-- definition and blob are what the version was when the batch began; blob is null once it has ended.
create table batches (
    id integer primary key,
    execution_id text not null unique,
    service integer references services (id) on delete set null,
    owner text not null,
    definition text not null,
    blob text references blobs (sha256),
    parallel integer not null,
    total integer not null,
    done integer not null default 0,
    state text not null check (state in ('arriving', 'open', 'complete', 'failed', 'deleted')),
    failure text not null default '',
    created_at real not null,
    finished_at real
) strict;

create index batches_by_service on batches (service);
create index batches_by_blob on batches (blob);
create index batches_by_state on batches (state, owner);

-- Records as they came, many in one msgpack array; `first` is the position of its first in the batch, from 0.
create table batch_inputs (
    batch integer not null references batches (id) on delete cascade,
    first integer not null,
    texts blob not null,
    unique (batch, first)
) strict;

-- A row is written once, by the call that came to its end.
create table batch_results (
    batch integer not null references batches (id) on delete cascade,
    position integer not null,
    answer blob not null,
    primary key (batch, position)
) strict, without rowid;
