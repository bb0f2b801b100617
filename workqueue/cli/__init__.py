"""The commands of `rift`: one file a group."""
