-- Lines of one kind are found without reading a transcript: a run may have 200,000.
CREATE INDEX events_by_kind ON events (run, kind, n);
