"""Where do bytes go: names, connections, pools."""
