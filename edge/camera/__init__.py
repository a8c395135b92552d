"""Frame sources: live D405, librealsense recording, folder of captures, simulated rig."""
