"""Sequences of posed RGB-D frames, whoever reads them: worlds, evaluation, training. No ROS, no maps."""
