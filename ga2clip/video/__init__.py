"""A video file goes in; uint8 RGB frames and their times come out."""
