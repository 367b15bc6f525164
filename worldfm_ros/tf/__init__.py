"""Transforms over time by tf2's rules, live and recorded alike. No ROS."""
