"""Worker processes: the local pool, the cluster, devices and the tasks they carry out."""
