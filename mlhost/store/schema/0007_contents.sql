-- What the workspace held that a version starts with; its snapshot may be deleted.
alter table services add column manifest text;
update services set manifest = (select manifest from snapshots where snapshots.blob = services.blob limit 1);
