"""A camera as it is built: its lens, its sensor, its mount; what lies between a painted pinhole view and a picture."""
