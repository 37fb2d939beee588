-- When the identity provider's token was issued whose groups a user has (seconds since the epoch); an older token of
-- theirs does not bring back others.
alter table users add column groups_at real not null default 0;
