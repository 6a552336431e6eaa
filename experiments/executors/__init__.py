"""Where the runs of a command execute: on this machine, on a Ray cluster, on Slurm (docs/decisions/0017)."""
