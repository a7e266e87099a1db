"""Reports and log lines to evidence: what counts, for which cause, how much, and where it stands."""
