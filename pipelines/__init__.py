"""What reads, writes and schedules: one file per verb of the command `mpm`."""
