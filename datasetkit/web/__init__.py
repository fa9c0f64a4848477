"""The web server of `dsk review`: serves the review page of a dataset to a browser on this
machine.
"""
