"""Lock backends: each is tried without waiting; `waiting.hold` does the waiting for all."""
