-- How many workers a service version has of its own; one without a row has the server's defaults.
create table pools (
    service integer primary key references services (id) on delete cascade,
    least integer not null,
    most integer not null
) strict;
