# Two images: `gateway` (the default: no torch in it) and `local-backend` (the engine).
#   docker build -t gatehouse .
#   docker build -t gatehouse-local-backend --target local-backend .
ARG PYTHON=python:3.14.10-slim-trixie

FROM ${PYTHON} AS packages
ENV PATH=/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /venv
COPY requirements/gateway.lock requirements/
RUN pip install --require-hashes --no-deps --only-binary=:all: -r requirements/gateway.lock

FROM packages AS gateway-packages
COPY requirements/postgres.lock requirements/
RUN pip install --require-hashes --no-deps --only-binary=:all: -r requirements/postgres.lock

FROM packages AS local-packages
# torch stays outside the lock: which build is right depends on the machine. The default index has wheels for
# the CPU alone, a tenth of the size; with TORCH_INDEX= empty it comes from where all else comes from.
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements/local.lock requirements/
RUN pip install --require-hashes --no-deps --only-binary=:all: -r requirements/local.lock \
 && pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$TORCH"

FROM ${PYTHON} AS base
# Numbers, so that Kubernetes can tell that it is not root; the folder, so that a new volume belongs to it.
RUN groupadd --gid 10001 gatehouse \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/gatehouse gatehouse \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/gatehouse
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
COPY deploy/healthy.py ./

FROM base AS local-backend
COPY --from=local-packages /venv /venv
COPY local_backend local_backend
RUN python -m compileall -q local_backend
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "healthy.py", "http://127.0.0.1:8000/health"]
ENTRYPOINT ["python", "-m", "local_backend"]
CMD ["--model", "bundled", "--listen", "0.0.0.0:8000"]

FROM base AS gateway
COPY --from=gateway-packages /venv /venv
COPY gateway gateway
COPY policies policies
COPY deploy/policies /etc/gatehouse/policies
RUN python -m compileall -q gateway
ENV GATEWAY_DATA_DIR=/var/lib/gatehouse
USER 10001:10001
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "healthy.py", "http://127.0.0.1:8080/health/ready"]
ENTRYPOINT ["python", "-m", "gateway"]
CMD ["serve", "--config", "/etc/gatehouse/policies", "--host", "0.0.0.0", "--admin-host", "0.0.0.0"]
