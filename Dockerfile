# syntax=docker/dockerfile:1

FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements.lock .ci/build-requirements.lock ./
RUN python -m venv /opt/falrpc \
 && python -m pip install --no-cache-dir --require-hashes --requirement build-requirements.lock
RUN /opt/falrpc/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY server server
COPY generated/python generated/python
RUN python -m build --wheel --no-isolation --outdir /dist . \
 && /opt/falrpc/bin/pip install --no-cache-dir --no-deps /dist/*.whl

FROM python:3.11-slim
# Nothing is written at run time: start it with a read-only root file system.
ENV PATH=/opt/falrpc/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=2
COPY --from=build /opt/falrpc /opt/falrpc
RUN useradd --system --uid 10001 --no-create-home falrpc
USER 10001
# Not loopback: say FALRPC_AUTH, too (docs/configuration.md), and give the key as FAL_KEY_FILE.
ENV FALRPC_LISTEN=0.0.0.0:50051
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s CMD ["falrpc", "healthcheck"]
ENTRYPOINT ["falrpc"]
CMD ["serve"]
