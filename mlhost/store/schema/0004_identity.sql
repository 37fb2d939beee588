-- Identity: roles by user or by group, families of refresh tokens, personal access tokens, keys that rotate.

-- password_hash is null for one who signs in elsewhere; role is null for one who was given none, whose groups or else
-- the default rule decide; groups is a JSON array of names.
create table users_new (
    name text primary key,
    password_hash text,
    role text,
    groups text not null default '[]',
    created_at real not null
) strict;

insert into users_new (name, password_hash, role, created_at) select name, password_hash, role, created_at from users;
drop table users;
alter table users_new rename to users;

-- One login and all its renewals; access_id names the one access token that is good. client: who it was given to, in
-- OAuth's words; '' for POST /login.
create table grants_new (
    id text primary key,
    user text not null references users (name) on delete cascade,
    client text not null,
    access_id text not null,
    created_at real not null,
    refreshed_at real not null
) strict;

-- The refresh tokens of a grant, hashed: the one that is good, whose retired_at is null, and all that were used.
create table refreshes (
    hash blob primary key,
    grant_id text not null references grants (id) on delete cascade,
    retired_at real
) strict;

create index refreshes_by_grant on refreshes (grant_id);

insert into grants_new select id, user, '', access_id, created_at, refreshed_at from grants;
insert into refreshes select refresh_hash, id, null from grants;
drop table grants;
alter table grants_new rename to grants;
create index grants_by_user on grants (user);

create table personal_tokens (
    id text primary key,
    user text not null references users (name) on delete cascade,
    name text not null,
    scope text not null,
    hash blob not null unique,
    created_at real not null,
    expires_at real not null,
    unique (user, name)
) strict;

-- Names of the keys that sign access tokens; the keys themselves are derived from the server's, which is not in here.
create table signing_keys (
    id text primary key,
    created_at real not null
) strict;
