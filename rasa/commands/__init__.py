"""The command `rasa`, and those of its commands that need no suite: `rasa data`, `rasa checkpoint`, `rasa pretrain`."""
