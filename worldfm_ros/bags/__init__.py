"""ROS 2 bags without ROS: writing and recovering them."""
