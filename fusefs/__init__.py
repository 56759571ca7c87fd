"""The store as a filesystem: the mount, and the command `fusefs`."""
