"""Heavy work an image: each stage is frozen options and a worker."""
