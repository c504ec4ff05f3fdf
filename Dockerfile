# One image for every role: `docker run spineloop ingest`. Two stages, so that pip and what it leaves behind stay out.
FROM python:3.11-slim AS build
RUN python -m venv /opt/spineloop
ENV PATH=/opt/spineloop/bin:$PATH
# The dependencies alone first: their layer lasts until the lock file changes.
COPY requirements.lock requirements-build.lock /src/
RUN pip install --no-cache-dir --require-hashes -r /src/requirements.lock -r /src/requirements-build.lock
COPY . /src
RUN pip install --no-cache-dir --no-deps --no-build-isolation /src && pip uninstall --yes setuptools

FROM python:3.11-slim
COPY --from=build /opt/spineloop /opt/spineloop
ENV PATH=/opt/spineloop/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --no-create-home --uid 10001 spineloop
USER spineloop
# /metrics, /healthz and /readyz of every role.
EXPOSE 9464
ENTRYPOINT ["spineloop"]
