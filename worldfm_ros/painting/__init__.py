"""Anchor drawing and reference become a picture: frame models with a network and without. No ROS."""
