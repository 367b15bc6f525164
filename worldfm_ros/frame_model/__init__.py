"""The learned part: frame transformer, autoencoders, sampling, model folders. torch only; no ROS, no worlds."""
