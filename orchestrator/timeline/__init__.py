"""Entries of a journal -> runs, starts, the rows of a picture, durations. Pure, no I/O."""
