# docker build --target cpu -t datasetkit .          (everything, on a CPU)
# docker build --target cuda -t datasetkit:cuda .    (everything, for NVIDIA cards: docker run --gpus all)
# The versions are those of constraints.txt, which the tests run with. See docs/docker.md.
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE constraints.txt ./
COPY datasetkit ./datasetkit
COPY taggers ./taggers
COPY trainer ./trainer
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:${PYTHON} AS base
RUN useradd --create-home --uid 1000 dsk && install --directory --owner dsk --group dsk /data /models
# Models are downloaded to /models, projects are in /data.
ENV HF_HOME=/models \
    PYTHONUNBUFFERED=1
COPY constraints.txt /opt/constraints.txt

FROM base AS cpu
# PyTorch without CUDA is a tenth of the size; its index has nothing else that is installed here.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    pip install --no-cache-dir --constraint /opt/constraints.txt --extra-index-url "${TORCH_INDEX}" "$(echo /dist/*.whl)[all-cpu]"
USER 1000
WORKDIR /data
VOLUME ["/data", "/models"]
EXPOSE 8765
HEALTHCHECK --interval=1m --timeout=20s --start-period=30s CMD ["dsk", "--version"]
ENTRYPOINT ["dsk"]
CMD ["--help"]

FROM base AS cuda
# The driver comes with the host; PyTorch's wheels bring CUDA and cuDNN, which tagging uses, too.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    pip install --no-cache-dir --constraint /opt/constraints.txt "$(echo /dist/*.whl)[all-gpu]"
USER 1000
WORKDIR /data
VOLUME ["/data", "/models"]
EXPOSE 8765
HEALTHCHECK --interval=1m --timeout=20s --start-period=30s CMD ["dsk", "--version"]
ENTRYPOINT ["dsk"]
CMD ["--help"]
