-- The first schema. Times are seconds since the epoch (UTC); documents are JSON text.

create table users (
    name text primary key,
    password_hash text not null,
    role text not null,
    created_at real not null
) strict;

-- One login and all its refreshes. Rotation replaces access_id and refresh_hash, which ends the tokens they name.
create table grants (
    id text primary key,
    user text not null references users (name) on delete cascade,
    access_id text not null,
    refresh_hash blob not null unique,
    created_at real not null,
    refreshed_at real not null
) strict;

create index grants_by_user on grants (user);

-- Immutable bytes named by what they hold; kept in chunks, so that no row is larger than SQLite likes.
create table blobs (
    sha256 text primary key,
    size integer not null,
    seal blob not null,
    created_at real not null
) strict;

create table blob_chunks (
    sha256 text not null references blobs (sha256) on delete cascade,
    position integer not null,
    compressed integer not null,
    content blob not null,
    unique (sha256, position)
) strict;

create table snapshots (
    id text primary key,
    owner text not null,
    name text not null,
    blob text not null references blobs (sha256),
    size integer not null,
    manifest text not null,
    created_at real not null
) strict;

create index snapshots_by_owner on snapshots (owner);
create index snapshots_by_blob on snapshots (blob);

-- blob is null for a version published without a snapshot.
create table services (
    id integer primary key,
    name text not null,
    version text not null,
    published_by text not null,
    snapshot_id text,
    blob text references blobs (sha256),
    definition text not null,
    created_at real not null,
    unique (name, version)
) strict;

create index services_by_blob on services (blob);
