"""The ROS 2 nodes: each converts messages, calls the core and publishes.

Only modules below this package import rclpy and messages.
"""
