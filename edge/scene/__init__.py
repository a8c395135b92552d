"""What the camera sees around the part: the empty tray as it was at set-up, and how far it has drifted."""
