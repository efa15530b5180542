"""Files that are whole or not there, images read safely, and the console: known to all rooms."""
