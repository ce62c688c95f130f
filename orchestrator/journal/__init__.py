"""The journal: what happened, one JSON object a line, written by many and read by anybody.

`writer` appends, `reader` reads whole files and their ends, `follower` what is appended later, and
`starts` finds the runs that belong together. Pure views of what was read: `timeline/`.
"""
