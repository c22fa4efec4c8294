"""What the replicas run."""
