"""The journal: what happened, one JSON object a line, written by many and read by anybody."""
