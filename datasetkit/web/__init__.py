"""The review page of `dsk review`: a data set in memory, served to a browser on this machine."""
