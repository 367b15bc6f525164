"""The persistent map: anchors and keyframes, how they are stored, built and drawn. No ROS, no networks."""
