"""Several hosts of the unmodified engine on one store, in virtual time, one move at a time, chosen by a seed.

`run.simulate(seed)` is the whole of it: it makes a hub, hosts, clients and mischief from the seed, runs them until all
is quiet, and tells what the `oracle` found wrong.
"""
