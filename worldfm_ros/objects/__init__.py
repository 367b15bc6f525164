"""Things that move: what they look like, where they are at a stamp, and how they are drawn among the anchors."""
