FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY fhir_server ./fhir_server
COPY integrations ./integrations
COPY subscriptions ./subscriptions
COPY profiles ./profiles
RUN pip install --no-cache-dir . && useradd --create-home server && mkdir /data && chown server /data
USER server
VOLUME /data
CMD ["fhir-server", "serve", "--data-dir", "/data"]
