"""The web server of `dsk studio` and `dsk review`: serves the page of a project to a browser."""
