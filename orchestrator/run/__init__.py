"""How a run goes.

`runner` begins and ends it. In between it is a `contender`, which probes (`warm_start`), waits
for the locks and becomes the `leader`, whose `work` is done inside the pass of `env.py`, with its
`proof` afterwards; or a `follower`, which only waits. `inspection` looks without a run.

`resources` are what all of them work with, `comparison` is by what two runs are told to be alike,
`threads` are where they wait for a database. `broadcast`
hands on what they tell: to the journal, to watchers, and to the `log` (`milestones`).
"""
