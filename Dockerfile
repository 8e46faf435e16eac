# dcvc on a CPU: docker build -t dcvc . && docker run --rm -v "$PWD:/work" dcvc encode in.mp4 out.dcvc
# For a GPU begin from an image that has torch with CUDA: that torch stays, as it fulfils what the package asks for.
FROM python:3.12-slim
# PyPI's torch for Linux brings CUDA, some gigabytes that a CPU has no use for.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /opt/dcvc
COPY . .
# The RUN lines are executed by tests/test_package.py where there is no docker.
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c constraints.txt torch numpy
RUN pip install --no-cache-dir -c constraints.txt .
RUN dcvc models
WORKDIR /work
ENTRYPOINT ["dcvc"]
CMD ["--help"]
