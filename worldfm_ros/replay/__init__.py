"""Rendering without a live graph: poses of a bag or a file become bags, folders and videos, in one process or many."""
