"""Dense depth from a picture and whatever depth is known: nothing, some points, or all but a part."""
