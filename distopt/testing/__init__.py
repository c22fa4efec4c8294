"""For those who test programs and plugins: replicas in one process, layouts compared, plugins checked."""
