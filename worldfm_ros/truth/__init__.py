"""What else is true of a frame, from its one geometry pass: things, boxes, normals, optical flow. No pictures here."""
