"""`orchestrator logs`: what the journal says of past starts, without reading JSON."""
