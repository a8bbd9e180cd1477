"""What `qcc tune` measures with: backends for each target, and the tasks of a model."""
