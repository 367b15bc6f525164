"""ROS 2 bags without ROS: writing, reading and recovering them."""
