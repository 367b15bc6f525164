"""A simulated ROS 2 camera whose images are generated. This package imports nothing on its own account."""
