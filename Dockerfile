# surd with all it can use on one machine; docs/faq.md#does-it-run-in-docker says how to run it.
#
#   docker build -t surd .                                                           # for CPUs
#   docker build -t surd:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .      # for CUDA GPUs
FROM python:3.12-slim

# anybody's, as `docker run --user` is given a number that has neither a name nor a home
RUN install --directory --mode 1777 /cache

# before the rest, as these are most of the bytes and rarely change
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch>=2.7" "torchvision>=0.22"

COPY pyproject.toml README.md LICENSE /src/
COPY pipelines /src/pipelines
COPY data /src/data
COPY surd /src/surd
RUN pip install --no-cache-dir "/src[train,s3,formats]"

ENV HOME=/cache USER=surd HF_HOME=/cache/huggingface SURD_CACHE=/cache/surd
VOLUME /cache
WORKDIR /work
ENTRYPOINT ["surd"]
CMD ["--help"]
