# rain serve as an image. Models that run in this process need the extra `hf` or `gguf`:
#   docker build --build-arg EXTRAS=serve,otel,hf -t rain .
# BASE=python@sha256:... takes the image of that digest, as compose.yaml does.
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG EXTRAS=endpoint,serve,otel
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir ".[${EXTRAS}]" --constraint constraints.txt \
    && useradd --create-home rain
USER rain
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["rain", "serve", "--host", "0.0.0.0"]
