-- The ONNX file a realtime version's model was compiled to; null where its workers answer every call.
alter table services add column compiled text references blobs (sha256);

create index services_by_compiled on services (compiled);
