"""How a run goes: the loop, checkpoints to go on from, its log, its processes, and the model folder at its end."""
