"""How fast the parts run on this machine, each beside a peer in the same process."""
