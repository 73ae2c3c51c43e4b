"""The method: what a developer of methods edits."""
