"""The review page of `dsk review`: a dataset in memory, served to a browser on this machine."""
