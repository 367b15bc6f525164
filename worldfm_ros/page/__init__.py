"""The live page: a world seen through its camera, watched and driven from a browser. Knows no ROS."""
